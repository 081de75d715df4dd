// Arithmetic on transforms: apply, Jacobian, invert, compose. Host and device.
#pragma once

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
    return {p[1] + 2 * p[3] * q.x + p[4] * q.y, p[2] + p[4] * q.x + 2 * p[5] * q.y,
            p[7] + 2 * p[9] * q.x + p[10] * q.y, p[8] + p[10] * q.x + 2 * p[11] * q.y};
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

// Matrix kinds only: the matrix of the quadratic's affine part would be a different map.
bool invert(const Transform& t, Transform& inverse);  // false: singular, or quadratic

// x -> t(x) solved for x by Newton's method from the inverse of the local affine map at `start`. Every kind.
// false: it did not converge (a fold, or a pole).
bool invert_point(const Transform& t, Point target, Point start, Point& solution);

// outer(inner(x)). Exact wherever the result is of a kind we have: matrix with matrix, affine or similarity around a
// quadratic on either side. false otherwise (homography with quadratic, quadratic with quadratic).
bool compose(const Transform& outer, const Transform& inner, Transform& result);

// x' = scale x + (tx, ty): how pixel grids of different resolution relate.
Transform scaling(double scale, double tx, double ty);

}  // namespace fastretina
