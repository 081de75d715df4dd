#include "core/transform.h"

#include <cmath>

#include "core/field.h"

namespace fastretina {
namespace {

bool is_matrix(const Transform& t) { return t.kind != TransformKind::quadratic; }

TransformKind higher(TransformKind a, TransformKind b) { return static_cast<int>(a) > static_cast<int>(b) ? a : b; }

}  // namespace

bool invert(const Transform& t, Transform& inverse) {
  if (!is_matrix(t)) return false;
  const double* m = t.p;
  const double c0 = m[4] * m[8] - m[5] * m[7], c1 = m[5] * m[6] - m[3] * m[8], c2 = m[3] * m[7] - m[4] * m[6];
  const double determinant = m[0] * c0 + m[1] * c1 + m[2] * c2;
  if (!std::isfinite(determinant) || std::abs(determinant) < 1e-300) return false;
  const double adjugate[9] = {c0, m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
                              c1, m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
                              c2, m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]};
  // Homographies are kept with p[8] = 1 wherever that entry is not negligible; the other kinds end in 0 0 1.
  double norm = determinant;
  if (t.kind == TransformKind::homography && std::abs(adjugate[8]) > 1e-12 * std::abs(determinant)) norm = adjugate[8];
  Transform out;
  out.kind = t.kind;
  for (int i = 0; i < 9; ++i) out.p[i] = adjugate[i] / norm;
  if (t.kind != TransformKind::homography) out.p[6] = out.p[7] = 0, out.p[8] = 1;
  inverse = out;
  return true;
}

namespace {

template <class Map>
bool newton(const Map& map, Point target, Point start, Point& solution) {
  constexpr int kIterations = 50;
  constexpr double kTolerancePx = 1e-9;
  Point q = start;
  for (int i = 0; i < kIterations; ++i) {
    const Point m = apply(map, q);
    const Jacobian j = jacobian(map, q);
    const double determinant = j.determinant();
    if (!std::isfinite(determinant) || determinant == 0) return false;
    const double ex = target.x - m.x, ey = target.y - m.y;
    const double dx = (j.d * ex - j.b * ey) / determinant, dy = (j.a * ey - j.c * ex) / determinant;
    q = {q.x + dx, q.y + dy};
    if (!std::isfinite(q.x) || !std::isfinite(q.y)) return false;
    if (std::abs(dx) + std::abs(dy) < kTolerancePx * (1 + std::abs(q.x) + std::abs(q.y))) {
      solution = q;
      return true;
    }
  }
  return false;
}

}  // namespace

bool invert_point(const Transform& t, Point target, Point start, Point& solution) {
  return newton(t, target, start, solution);
}

bool invert_point(const Field& f, Point target, Point start, Point& solution) {
  return newton(f, target, start, solution);
}

namespace {

Transform matrix_product(const Transform& outer, const Transform& inner) {
  Transform out;
  out.kind = higher(outer.kind, inner.kind);
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) {
      double sum = 0;
      for (int k = 0; k < 3; ++k) sum += outer.p[3 * r + k] * inner.p[3 * k + c];
      out.p[3 * r + c] = sum;
    }
  if (out.kind == TransformKind::homography && out.p[8] != 0)
    for (int i = 0; i < 9; ++i) out.p[i] /= out.p[8];
  if (out.kind == TransformKind::homography) out.p[8] = out.p[8] != 0 ? 1 : 0;
  return out;
}

// affine(quadratic(x)): the rows mix linearly.
Transform affine_of_quadratic(const Transform& affine, const Transform& quadratic) {
  Transform out;
  out.kind = TransformKind::quadratic;
  const double *m = affine.p, *q = quadratic.p;
  for (int i = 0; i < 6; ++i) {
    out.p[i] = m[0] * q[i] + m[1] * q[6 + i];
    out.p[6 + i] = m[3] * q[i] + m[4] * q[6 + i];
  }
  out.p[0] += m[2];
  out.p[6] += m[5];
  return out;
}

// quadratic(affine(x)): substitute x -> a x + b y + c, y -> d x + e y + f.
Transform quadratic_of_affine(const Transform& quadratic, const Transform& affine) {
  Transform out;
  out.kind = TransformKind::quadratic;
  const double a = affine.p[0], b = affine.p[1], c = affine.p[2], d = affine.p[3], e = affine.p[4], f = affine.p[5];
  for (int row = 0; row < 2; ++row) {
    const double* q = quadratic.p + 6 * row;
    double* o = out.p + 6 * row;
    o[0] = q[0] + q[1] * c + q[2] * f + q[3] * c * c + q[4] * c * f + q[5] * f * f;
    o[1] = q[1] * a + q[2] * d + 2 * q[3] * a * c + q[4] * (a * f + c * d) + 2 * q[5] * d * f;
    o[2] = q[1] * b + q[2] * e + 2 * q[3] * b * c + q[4] * (b * f + c * e) + 2 * q[5] * e * f;
    o[3] = q[3] * a * a + q[4] * a * d + q[5] * d * d;
    o[4] = 2 * q[3] * a * b + q[4] * (a * e + b * d) + 2 * q[5] * d * e;
    o[5] = q[3] * b * b + q[4] * b * e + q[5] * e * e;
  }
  return out;
}

}  // namespace

bool compose(const Transform& outer, const Transform& inner, Transform& result) {
  if (is_matrix(outer) && is_matrix(inner)) {
    result = matrix_product(outer, inner);
  } else if (inner.kind == TransformKind::quadratic && outer.kind != TransformKind::homography && is_matrix(outer)) {
    result = affine_of_quadratic(outer, inner);
  } else if (outer.kind == TransformKind::quadratic && inner.kind != TransformKind::homography && is_matrix(inner)) {
    result = quadratic_of_affine(outer, inner);
  } else {
    return false;
  }
  return true;
}

Transform scaling(double scale, double tx, double ty) {
  Transform t;
  t.kind = TransformKind::similarity;
  t.p[0] = t.p[4] = scale;
  t.p[2] = tx;
  t.p[5] = ty;
  return t;
}

}  // namespace fastretina
