// Arithmetic on transforms: apply, Jacobian, invert, compose. Host and device.
#pragma once

#include <cmath>

#include "core/hd.h"
#include "core/types.h"

namespace fastretina {

struct Point {
  double x = 0, y = 0;
};

// MOVING point -> FIXED point. A point on a homography's pole maps to infinity or NaN.
FR_HD Point apply(const Transform& t, Point q) {
  const double* p = t.p;
  if (t.kind == TransformKind::quadratic) {
    const double xx = q.x * q.x, xy = q.x * q.y, yy = q.y * q.y;
    return {p[0] + p[1] * q.x + p[2] * q.y + p[3] * xx + p[4] * xy + p[5] * yy,
            p[6] + p[7] * q.x + p[8] * q.y + p[9] * xx + p[10] * xy + p[11] * yy};
  }
  const double u = p[0] * q.x + p[1] * q.y + p[2];
  const double v = p[3] * q.x + p[4] * q.y + p[5];
  if (t.kind != TransformKind::homography) return {u, v};
  const double w = p[6] * q.x + p[7] * q.y + p[8];
  return {u / w, v / w};
}

// d(x', y') / d(x, y), row-major 2 x 2.
struct Jacobian {
  double a = 1, b = 0, c = 0, d = 1;
  FR_HD double determinant() const { return a * d - b * c; }
};

FR_HD Jacobian jacobian(const Transform& t, Point q) {
  const double* p = t.p;
  if (t.kind == TransformKind::quadratic)
    return {p[1] + 2 * p[3] * q.x + p[4] * q.y, p[2] + p[4] * q.x + 2 * p[5] * q.y, p[7] + 2 * p[9] * q.x + p[10] * q.y,
            p[8] + p[10] * q.x + 2 * p[11] * q.y};
  if (t.kind != TransformKind::homography) return {p[0], p[1], p[3], p[4]};
  const double w = p[6] * q.x + p[7] * q.y + p[8];
  const Point m = apply(t, q);
  return {(p[0] - m.x * p[6]) / w, (p[1] - m.x * p[7]) / w, (p[3] - m.y * p[6]) / w, (p[4] - m.y * p[7]) / w};
}

// Row-major product: first `inner`.
FR_HD Jacobian operator*(const Jacobian& outer, const Jacobian& inner) {
  return {outer.a * inner.a + outer.b * inner.c, outer.a * inner.b + outer.b * inner.d,
          outer.c * inner.a + outer.d * inner.c, outer.c * inner.b + outer.d * inner.d};
}

FR_HD bool is_matrix(const Transform& t) { return t.kind != TransformKind::quadratic; }

// Matrix kinds only: the matrix of the quadratic's affine part would be a different map. false: singular, or quadratic.
FR_HD bool invert(const Transform& t, Transform& inverse) {
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

// map(x) = target solved for x by Newton's method from `start`, map one that apply() and jacobian() know: a transform
// of every kind, a field, a deformation. false: it did not converge (a fold, or a pole).
template <class Map>
FR_HD bool invert_point(const Map& map, Point target, Point start, Point& solution) {
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

namespace transform_math {

FR_HD TransformKind higher(TransformKind a, TransformKind b) {
  return static_cast<int>(a) > static_cast<int>(b) ? a : b;
}

FR_HD Transform matrix_product(const Transform& outer, const Transform& inner) {
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
FR_HD Transform affine_of_quadratic(const Transform& affine, const Transform& quadratic) {
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
FR_HD Transform quadratic_of_affine(const Transform& quadratic, const Transform& affine) {
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

}  // namespace transform_math

// outer(inner(x)). Exact wherever the result is of a kind we have: matrix with matrix, affine or similarity around a
// quadratic on either side. false otherwise (homography with quadratic, quadratic with quadratic).
FR_HD bool compose(const Transform& outer, const Transform& inner, Transform& result) {
  if (is_matrix(outer) && is_matrix(inner)) {
    result = transform_math::matrix_product(outer, inner);
  } else if (inner.kind == TransformKind::quadratic && outer.kind != TransformKind::homography && is_matrix(outer)) {
    result = transform_math::affine_of_quadratic(outer, inner);
  } else if (outer.kind == TransformKind::quadratic && inner.kind != TransformKind::homography && is_matrix(inner)) {
    result = transform_math::quadratic_of_affine(outer, inner);
  } else {
    return false;
  }
  return true;
}

// x' = scale x + (tx, ty): how pixel grids of different resolution relate.
FR_HD Transform scaling(double scale, double tx, double ty) {
  Transform t;
  t.kind = TransformKind::similarity;
  t.p[0] = t.p[4] = scale;
  t.p[2] = tx;
  t.p[5] = ty;
  return t;
}

}  // namespace fastretina
