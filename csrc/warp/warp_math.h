// What decides a value in the room `warp`; shared by the twins.
//
// An output row is cut into spans of kSpan pixels that begin at multiples of kSpan. The source position of a span's
// first pixel is computed in double precision; inside the span float offsets from it suffice (errors below 1e-5 px), so
// that frames of any size keep their sub-pixel accuracy.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/hd.h"
#include "core/field.h"
#include "core/transform.h"
#include "warp/warp.h"

namespace fastretina::warp_math {

constexpr int kSpan = 64;
constexpr double kFarPx = 1073741824.0;  // beyond this a position is no pixel's

// --- positions --------------------------------------------------------------------------------------------------
// source = base + (x0, y0) + t (ax, ay), t = i / (1 + b i), for pixel i of the span: exact for matrices.
struct MatrixSpan {
  std::int64_t base_x = 0, base_y = 0;
  float x0 = 0, y0 = 0, ax = 0, ay = 0, b = 0;
  bool regular = false;  // false: the pole is inside or the position is too far away; go pixel by pixel
};

// m: FIXED -> MOVING, scaled so that its third row is positive on the side of the pole that shows the moving frame.
FR_HD MatrixSpan matrix_span(const double* m, double x, double y, bool projective) {
  MatrixSpan s;
  const double u = m[0] * x + m[1] * y + m[2], v = m[3] * x + m[4] * y + m[5];
  const double w = projective ? m[6] * x + m[7] * y + m[8] : 1.0;
  if (projective && !(w > 0 && w + m[6] * kSpan > 0)) return s;
  const double sx = u / w, sy = v / w;
  if (!(std::fabs(sx) < kFarPx && std::fabs(sy) < kFarPx)) return s;
  const double fx = std::floor(sx), fy = std::floor(sy);
  s.base_x = static_cast<std::int64_t>(fx);
  s.base_y = static_cast<std::int64_t>(fy);
  s.x0 = static_cast<float>(sx - fx);
  s.y0 = static_cast<float>(sy - fy);
  s.ax = static_cast<float>(projective ? (m[0] - sx * m[6]) / w : m[0]);
  s.ay = static_cast<float>(projective ? (m[3] - sy * m[6]) / w : m[3]);
  s.b = static_cast<float>(projective ? m[6] / w : 0.0);
  s.regular = true;
  return s;
}

FR_HD float matrix_step(const MatrixSpan& s, int i) {
  const auto f = static_cast<float>(i);
  return f / std::fmaf(s.b, f, 1.f);
}

// Around a known solution the quadratic is d + Q(d, d) = i e, d the offset in MOVING: everything is small.
struct QuadraticSpan {
  std::int64_t base_x = 0, base_y = 0;
  float x0 = 0, y0 = 0, ex = 0, ey = 0;
  float q[6] = {};  // x: q0 dx^2 + q1 dx dy + q2 dy^2; y: q3 ...
};

FR_HD bool quadratic_span(const Transform& t, Point q, QuadraticSpan& s) {
  const Jacobian j = jacobian(t, q);
  const double det = j.determinant();
  if (!(std::fabs(q.x) < kFarPx && std::fabs(q.y) < kFarPx && det != 0)) return false;
  const double fx = std::floor(q.x), fy = std::floor(q.y);
  s.base_x = static_cast<std::int64_t>(fx);
  s.base_y = static_cast<std::int64_t>(fy);
  s.x0 = static_cast<float>(q.x - fx);
  s.y0 = static_cast<float>(q.y - fy);
  s.ex = static_cast<float>(j.d / det);
  s.ey = static_cast<float>(-j.c / det);
  for (int k = 0; k < 3; ++k) {
    s.q[k] = static_cast<float>((j.d * t.p[3 + k] - j.b * t.p[9 + k]) / det);
    s.q[3 + k] = static_cast<float>((j.a * t.p[9 + k] - j.c * t.p[3 + k]) / det);
  }
  return true;
}

// The offset of pixel i: second-order guess, then one Newton step. `worst` grows to the largest step, and to infinity
// near a fold: the caller then goes pixel by pixel.
FR_HD void quadratic_step(const QuadraticSpan& s, int i, float& dx, float& dy, float& worst) {
  const auto f = static_cast<float>(i);
  const float gx = f * s.ex, gy = f * s.ey;
  const float xx = gx * gx, xy = gx * gy, yy = gy * gy;
  const float hx = gx - std::fmaf(s.q[0], xx, std::fmaf(s.q[1], xy, s.q[2] * yy));
  const float hy = gy - std::fmaf(s.q[3], xx, std::fmaf(s.q[4], xy, s.q[5] * yy));
  const float kxx = hx * hx, kxy = hx * hy, kyy = hy * hy;
  const float rx = gx - hx - std::fmaf(s.q[0], kxx, std::fmaf(s.q[1], kxy, s.q[2] * kyy));
  const float ry = gy - hy - std::fmaf(s.q[3], kxx, std::fmaf(s.q[4], kxy, s.q[5] * kyy));
  const float a = 1.f + std::fmaf(2.f * s.q[0], hx, s.q[1] * hy), b = std::fmaf(s.q[1], hx, 2.f * s.q[2] * hy);
  const float c = std::fmaf(2.f * s.q[3], hx, s.q[4] * hy), d = 1.f + std::fmaf(s.q[4], hx, 2.f * s.q[5] * hy);
  const float det = std::fmaf(a, d, -(b * c));
  const float sx = std::fmaf(d, rx, -(b * ry)) / det, sy = std::fmaf(a, ry, -(c * rx)) / det;
  dx = hx + sx;
  dy = hy + sy;
  const float step = std::fabs(sx) + std::fabs(sy);
  const float seen = det > 0.1f ? step : HUGE_VALF;
  worst = seen > worst ? seen : worst;
}

constexpr float kLargestStep = 0.03125f;  // px: the next Newton step would be below 1e-5 px

// The solution that continues the neighbourhood of `centre` (the moving frame's), by Newton's method from `start`.
// false: none (a fold, or far outside the frame).
FR_HD bool solve_quadratic(const Transform& t, Point target, Point start, double orientation, double far, Point& q) {
  q = start;
  for (int i = 0; i < 16; ++i) {
    const Point m = apply(t, q);
    const Jacobian j = jacobian(t, q);
    const double det = j.determinant();
    if (!(det * orientation > 0)) return false;
    const double ex = target.x - m.x, ey = target.y - m.y;
    const double dx = (j.d * ex - j.b * ey) / det, dy = (j.a * ey - j.c * ex) / det;
    q.x += dx;
    q.y += dy;
    const double reach = std::fabs(q.x) + std::fabs(q.y);
    if (!(reach < far)) return false;
    if (std::fabs(dx) + std::fabs(dy) < 1e-9 * (1 + reach)) return jacobian(t, q).determinant() * orientation > 0;
  }
  return false;
}

// The d(s) with s + d(s) = target, by fixed-point steps from a guess: neighbours differ by little, and a field that does not
// fold is steep nowhere that matters. Newton's method where that does not end. false: none was found.
FR_HD bool solve_field(const Field& f, Point target, Point& d) {
  constexpr int kSteps = 8;
  constexpr double kTolerancePx = 5e-5;
  for (int i = 0; i < kSteps; ++i) {
    const Point next = displacement(f, {target.x - d.x, target.y - d.y});
    const double change = std::fabs(next.x - d.x) + std::fabs(next.y - d.y);
    d = next;
    if (change <= kTolerancePx) return true;
  }
  Point solution;
  if (!invert_point(f, target, {target.x - d.x, target.y - d.y}, solution)) return false;
  d = {target.x - solution.x, target.y - solution.y};
  return true;
}

// --- the inverse ------------------------------------------------------------------------------------------------
// FIXED -> MOVING.
struct Inverse {
  bool quadratic = false, projective = false;
  Field field;  // empty, or undone first
  double matrix[9] = {};
  Transform forward;  // the quadratic's
  Point centre, centre_image;
  Jacobian centre_jacobian;
  double far = 0;

  // The inverse of the map that touches the quadratic in the moving frame's centre.
  FR_HD Point linear(Point target) const {
    const Jacobian& j = centre_jacobian;
    const double ex = target.x - centre_image.x, ey = target.y - centre_image.y, det = j.determinant();
    return {centre.x + (j.d * ex - j.b * ey) / det, centre.y + (j.a * ey - j.c * ex) / det};
  }
};

// NULL, or why there is none.
FR_HD const char* invert(Size moving, const Deformation& map, Inverse& inverse) {
  const Transform& t = map.base;
  inverse = {};
  inverse.field = map.field;
  inverse.centre = {0.5 * (moving.width - 1), 0.5 * (moving.height - 1)};
  if (t.kind == TransformKind::quadratic) {
    inverse.quadratic = true;
    inverse.forward = t;
    inverse.centre_image = apply(t, inverse.centre);
    inverse.centre_jacobian = jacobian(t, inverse.centre);
    inverse.far = 4.0 * (static_cast<double>(moving.width) + moving.height);
    const double det = inverse.centre_jacobian.determinant();
    return std::isfinite(det) && det != 0 ? nullptr : "a quadratic that folds in the moving frame's centre";
  }
  Transform back;
  if (!fastretina::invert(t, back)) return "a singular matrix";
  inverse.projective = t.kind == TransformKind::homography;
  // w of the inverse has one sign on the side of the pole where the moving frame's centre is: make it positive.
  double sign = 1;
  if (inverse.projective) {
    const Point c = apply(t, inverse.centre);
    sign = back.p[6] * c.x + back.p[7] * c.y + back.p[8] < 0 ? -1 : 1;
    if (!std::isfinite(c.x) || !std::isfinite(c.y)) return "a homography whose pole crosses the moving frame's centre";
  }
  for (int i = 0; i < 9; ++i) inverse.matrix[i] = sign * back.p[i];
  return nullptr;
}

// A point of FIXED without the field -> MOVING. false: there is none.
FR_HD bool undo_base(const Inverse& inverse, Point s, Point start, Point& q) {
  if (inverse.quadratic)
    return solve_quadratic(inverse.forward, s, start, inverse.centre_jacobian.determinant(), inverse.far, q);
  const double* m = inverse.matrix;
  const double w = inverse.projective ? m[6] * s.x + m[7] * s.y + m[8] : 1.0;
  q = {(m[0] * s.x + m[1] * s.y + m[2]) / w, (m[3] * s.x + m[4] * s.y + m[5]) / w};
  return w > 0 && std::abs(q.x) < kFarPx && std::abs(q.y) < kFarPx;
}

// --- bounds -----------------------------------------------------------------------------------------------------
// Bounds of positions, relative to the base: low <= p <= high.
struct Bounds {
  float low_x, high_x, low_y, high_y;
};
FR_HD_FLAT bool within(const Bounds& b, float x, float y) {
  return (x >= b.low_x) & (x <= b.high_x) & (y >= b.low_y) & (y <= b.high_y);
}

// low <= p <= high on the pixel axis, seen from the base.
FR_HD void axis_bounds(double low, double high, std::int64_t base, float& out_low, float& out_high) {
  out_low = static_cast<float>(low - static_cast<double>(base));
  out_high = static_cast<float>(high - static_cast<double>(base));
}

// Of the positions that show the image.
FR_HD Bounds frame_bounds(Size size, std::int64_t base_x, std::int64_t base_y) {
  Bounds b;
  axis_bounds(-0.5, size.width - 0.5, base_x, b.low_x, b.high_x);
  axis_bounds(-0.5, size.height - 0.5, base_y, b.low_y, b.high_y);
  return b;
}

// --- samples ----------------------------------------------------------------------------------------------------
FR_HD float bilinear(float a, float b, float c, float d, float fx, float fy) {
  const float top = std::fmaf(fx, b - a, a), bottom = std::fmaf(fx, d - c, c);
  return std::fmaf(fy, bottom - top, top);
}

// Keys' cubic, a = -0.75, at distance d <= 1 and 1 <= d <= 2.
FR_HD float cubic_near(float d) { return std::fmaf(std::fmaf(1.25f, d, -2.25f), d * d, 1.f); }
FR_HD float cubic_far(float d) { return std::fmaf(std::fmaf(std::fmaf(-0.75f, d, 3.75f), d, -6.f), d, 3.f); }
FR_HD float cubic_sum(const float* w, float p0, float p1, float p2, float p3) {
  return std::fmaf(w[3], p3, std::fmaf(w[2], p2, std::fmaf(w[1], p1, w[0] * p0)));
}
FR_HD void cubic_weights(float f, float* w) {
  w[0] = cubic_far(1.f + f);
  w[1] = cubic_near(f);
  w[2] = cubic_near(1.f - f);
  w[3] = cubic_far(2.f - f);
}

// Integers: clamped, then rounded half up.
FR_HD void store(float v, std::uint8_t& out) {
  out = static_cast<std::uint8_t>((v > 0.f ? (v < 255.f ? v : 255.f) : 0.f) + 0.5f);
}
FR_HD void store(float v, std::uint16_t& out) {
  out = static_cast<std::uint16_t>((v > 0.f ? (v < 65535.f ? v : 65535.f) : 0.f) + 0.5f);
}
FR_HD void store(float v, float& out) { out = v; }

FR_HD_FLAT int floor_int(float v) {
  const int i = static_cast<int>(v);
  return i - (static_cast<float>(i) > v ? 1 : 0);
}

// One pixel from its taps; at(dx, dy) is the address of the tap (floor x + dx, floor y + dy).
template <class T, Interpolation I, class At>
FR_HD_FLAT void sample(float x, float y, int channels, T* out, At&& at) {
  if constexpr (I == Interpolation::nearest) {
    const T* p = at(floor_int(x + 0.5f), floor_int(y + 0.5f));
    for (int c = 0; c < channels; ++c) out[c] = p[c];
    return;
  }
  const int ix = floor_int(x), iy = floor_int(y);
  const float fx = x - static_cast<float>(ix), fy = y - static_cast<float>(iy);
  if constexpr (I == Interpolation::linear) {
    const T *a = at(ix, iy), *b = at(ix + 1, iy), *c = at(ix, iy + 1), *d = at(ix + 1, iy + 1);
    for (int k = 0; k < channels; ++k)
      store(bilinear(static_cast<float>(a[k]), static_cast<float>(b[k]), static_cast<float>(c[k]),
                     static_cast<float>(d[k]), fx, fy),
            out[k]);
  }
  if constexpr (I == Interpolation::cubic) {
    float wx[4], wy[4];
    cubic_weights(fx, wx);
    cubic_weights(fy, wy);
    const T* taps[4][4];
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i) taps[j][i] = at(ix + i - 1, iy + j - 1);
    for (int k = 0; k < channels; ++k) {
      float rows[4];
      for (int j = 0; j < 4; ++j)
        rows[j] = cubic_sum(wx, static_cast<float>(taps[j][0][k]), static_cast<float>(taps[j][1][k]),
                            static_cast<float>(taps[j][2][k]), static_cast<float>(taps[j][3][k]));
      store(cubic_sum(wy, rows[0], rows[1], rows[2], rows[3]), out[k]);
    }
  }
}

}  // namespace fastretina::warp_math
