// The parameters that refine moves, for every kind of transform, in units of FIXED pixels: a step of 1 in any of them
// moves points half a MOVING frame from its centre by about one pixel. The kernels see FloatMap.
#pragma once

#include <cmath>

#include "core/transform.h"
#include "refine/refine_math.h"

namespace fastretina::refine_math {

constexpr int kMaxParams = 12;

FR_HD int parameter_count(TransformKind kind) {
  constexpr int kCounts[] = {0, 4, 6, 8, 12};
  return kCounts[static_cast<int>(kind)];
}

struct Model {
  TransformKind kind = TransformKind::similarity;
  Frame frame;
  double ox = 0, oy = 0;  // FIXED origin: where the centre of the MOVING frame starts
  double mirror = 1;      // -1: the start mirrors
  double p[kMaxParams] = {};
};

// similarity: tx, ty, a, b: X = tx + a u - m b v, Y = ty + b u + m a v
// affine:     X = p0 + p1 u + p2 v, Y = p3 + p4 u + p5 v
// homography: the same over w = 1 + (p6 u + p7 v) / radius
// quadratic:  X = p0 + p1 u + p2 v + p3 uu + p4 uv + p5 vv, Y = p6 + ...

// false: the start cannot be written around the centre of the frame (its pole is there, or it is singular).
FR_HD bool model_of(const Transform& start, TransformKind kind, const Frame& frame, Model& out) {
  Transform local;  // of (u, v)
  if (!compose(start, scaling(frame.radius, frame.cx, frame.cy), local)) return false;
  Model m;
  m.kind = kind;
  m.frame = frame;
  double value[2], d1[2][2], d2[2][3] = {}, pole[2] = {};  // Taylor coefficients around the centre
  const double* p = local.p;
  if (local.kind == TransformKind::quadratic) {
    for (int r = 0; r < 2; ++r) {
      const double* q = p + 6 * r;
      value[r] = q[0], d1[r][0] = q[1], d1[r][1] = q[2];
      for (int i = 0; i < 3; ++i) d2[r][i] = q[3 + i];
    }
  } else {
    if (!(std::abs(p[8]) > 1e-9)) return false;
    for (int i = 0; i < 2; ++i) pole[i] = p[6 + i] / p[8];
    for (int r = 0; r < 2; ++r) {
      value[r] = p[3 * r + 2] / p[8];
      for (int i = 0; i < 2; ++i) d1[r][i] = p[3 * r + i] / p[8] - value[r] * pole[i];
      d2[r][0] = -d1[r][0] * pole[0];
      d2[r][1] = -(d1[r][0] * pole[1] + d1[r][1] * pole[0]);
      d2[r][2] = -d1[r][1] * pole[1];
    }
  }
  const double determinant = d1[0][0] * d1[1][1] - d1[0][1] * d1[1][0];
  if (!std::isfinite(determinant) || determinant == 0) return false;
  m.ox = value[0], m.oy = value[1];
  m.mirror = determinant < 0 ? -1 : 1;
  switch (kind) {
    case TransformKind::similarity:
      m.p[2] = (d1[0][0] + m.mirror * d1[1][1]) / 2;
      m.p[3] = (d1[1][0] - m.mirror * d1[0][1]) / 2;
      break;
    case TransformKind::affine:
    case TransformKind::homography:
      m.p[1] = d1[0][0], m.p[2] = d1[0][1], m.p[4] = d1[1][0], m.p[5] = d1[1][1];
      m.p[6] = pole[0] * frame.radius, m.p[7] = pole[1] * frame.radius;
      break;
    default:
      for (int r = 0; r < 2; ++r) {
        m.p[6 * r + 1] = d1[r][0], m.p[6 * r + 2] = d1[r][1];
        for (int i = 0; i < 3; ++i) m.p[6 * r + 3 + i] = d2[r][i];
      }
  }
  out = m;
  return true;
}

// As numerators of X - ox and Y - oy, and the denominator.
FR_HD void polynomials(const Model& m, double x[6], double y[6], double w[3]) {
  for (int i = 0; i < 6; ++i) x[i] = y[i] = 0;
  w[0] = 1, w[1] = w[2] = 0;
  const double* p = m.p;
  if (m.kind == TransformKind::similarity) {
    x[0] = p[0], x[1] = p[2], x[2] = -m.mirror * p[3];
    y[0] = p[1], y[1] = p[3], y[2] = m.mirror * p[2];
  } else if (m.kind == TransformKind::quadratic) {
    for (int i = 0; i < 6; ++i) x[i] = p[i], y[i] = p[6 + i];
  } else {
    for (int i = 0; i < 3; ++i) x[i] = p[i], y[i] = p[3 + i];
    if (m.kind == TransformKind::homography) w[1] = p[6] / m.frame.radius, w[2] = p[7] / m.frame.radius;
  }
}

FR_HD Transform transform_of(const Model& m) {
  double x[6], y[6], w[3];
  polynomials(m, x, y, w);
  Transform local;
  local.kind = m.kind;
  if (m.kind == TransformKind::quadratic) {
    for (int i = 0; i < 6; ++i) local.p[i] = x[i], local.p[6 + i] = y[i];
    local.p[0] += m.ox;
    local.p[6] += m.oy;
  } else {
    const double rows[9] = {x[1] + m.ox * w[1],
                            x[2] + m.ox * w[2],
                            x[0] + m.ox,
                            y[1] + m.oy * w[1],
                            y[2] + m.oy * w[2],
                            y[0] + m.oy,
                            w[1],
                            w[2],
                            1};
    for (int i = 0; i < 9; ++i) local.p[i] = rows[i];
  }
  const double scale = 1 / m.frame.radius;
  Transform out;
  compose(local, scaling(scale, -m.frame.cx * scale, -m.frame.cy * scale), out);  // exact: a similarity inside
  return out;
}

// Numerators and denominator in pixels of a level that is `scale` times coarser.
FR_HD FloatMap float_map(const Model& m, int scale) {
  double x[6], y[6], w[3];
  polynomials(m, x, y, w);
  const double bx = m.ox + 0.5 - 0.5 * scale, by = m.oy + 0.5 - 0.5 * scale;  // level = (plane + 1/2) / scale - 1/2
  for (int i = 0; i < 3; ++i) {
    // w multiplies the origin; its terms sit at 1, u, v.
    x[i] += bx * w[i];
    y[i] += by * w[i];
  }
  FloatMap f;
  for (int i = 0; i < 6; ++i) {
    f.x[i] = static_cast<float>(x[i] / scale);
    f.y[i] = static_cast<float>(y[i] / scale);
  }
  for (int i = 0; i < 3; ++i) f.w[i] = static_cast<float>(w[i]);
  return f;
}

// Turn of directions at (u, v), from the exact Jacobian.
FR_HD Turn turn_at(const Transform& t, Point moving) {
  const Jacobian j = jacobian(t, moving);
  return turn_of(j.a, j.b, j.c, j.d);
}

}  // namespace fastretina::refine_math
