// What decides a value in refine: shared by the CPU and the CUDA twin.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/hd.h"
#include "core/types.h"

namespace fastretina::refine_math {

// ---- ridges ----

constexpr int kMaxRadius = 32;

// Taps of a Gaussian and of its first two derivatives at offsets 0...radius. The Gaussian and the second derivative are
// even, the first is odd. Scaled so that a constant gives 1, 0, 0; x gives 0, 1, 0; x^2 / 2 gives 0, 0, 1 in the last
// two.
struct HessianTaps {
  int radius = 0;
  float g[kMaxRadius + 1], d1[kMaxRadius + 1], d2[kMaxRadius + 1];
};

inline HessianTaps hessian_taps(double sigma) {
  HessianTaps taps;
  taps.radius = static_cast<int>(std::ceil(3 * sigma));
  double g[kMaxRadius + 1], d2[kMaxRadius + 1], sum_g = 0, sum_1 = 0, sum_d2 = 0, moment = 0;
  const int n = taps.radius;
  for (int i = 0; i <= n; ++i) {
    const double both = i == 0 ? 1 : 2;
    g[i] = std::exp(-i * i / (2 * sigma * sigma));
    d2[i] = (i * i / (sigma * sigma) - 1) * g[i];
    sum_g += both * g[i];
    sum_1 += both * i * i * g[i];
    sum_d2 += both * d2[i];
  }
  const double mean = sum_d2 / (2 * n + 1);
  for (int i = 0; i <= n; ++i) moment += (i == 0 ? 1 : 2) * (d2[i] - mean) * i * i / 2;
  for (int i = 0; i <= n; ++i) {
    taps.g[i] = static_cast<float>(g[i] / sum_g);
    taps.d1[i] = static_cast<float>(i * g[i] / sum_1);
    taps.d2[i] = static_cast<float>((d2[i] - mean) / moment);
  }
  return taps;
}

struct Ridge {
  float strength, c2, s2;  // c2, s2: strength x (cos, sin) of the doubled direction across the line
};

// From the second derivatives. sign(trace) turns the direction of the signed curvature into that of the stronger one.
FR_HD Ridge ridge(float xx, float xy, float yy, float inside) {
  const float half = 0.5f * (xx - yy), trace = xx + yy;
  const float d = std::sqrt(std::fmaf(half, half, xy * xy));
  const float magnitude = std::fabs(trace);
  const float strength = (magnitude < 2 * d ? magnitude : 2 * d) * inside;
  const float signed_strength = trace < 0 ? -strength : strength;
  const float unit = signed_strength / (d > 1e-12f ? d : 1e-12f);
  return {strength, unit * half, unit * xy};
}

FR_HD float saturation_gain(float strength, float knee) { return 1 / (strength + knee); }

constexpr float kBinomial[3] = {0.375f, 0.25f, 0.0625f};  // offsets 0, 1, 2

FR_HD std::uint32_t pack(float strength, float c2, float s2, std::uint32_t inside) {
  const auto a = static_cast<std::uint32_t>(static_cast<std::int32_t>(std::fmaf(strength, 255.0f, 0.5f)));
  const auto b = static_cast<std::uint32_t>(static_cast<std::int32_t>(std::fmaf(c2, 127.0f, 128.5f)));
  const auto c = static_cast<std::uint32_t>(static_cast<std::int32_t>(std::fmaf(s2, 127.0f, 128.5f)));
  return a | b << 8 | c << 16 | inside << 24;
}
FR_HD float strength_of(std::uint32_t pixel) {
  return static_cast<float>(static_cast<std::int32_t>(pixel & 255)) * (1.0f / 255);
}
FR_HD float c2_of(std::uint32_t pixel) {
  return static_cast<float>(static_cast<std::int32_t>(pixel >> 8 & 255) - 128) * (1.0f / 127);
}
FR_HD float s2_of(std::uint32_t pixel) {
  return static_cast<float>(static_cast<std::int32_t>(pixel >> 16 & 255) - 128) * (1.0f / 127);
}

constexpr int kPointStepPx = 3;  // of the lattice of points, or more where that is more points than fit

// ---- likelihood ----

// Minus the log-likelihood of Gaussian residuals of unknown gain, offset and variance, per independent sample, where
// the correlation is r; a correlation below 0 is none.
FR_HD double misfit(double r) {
  const double bounded = r > 0 ? (r < 0.999999 ? r : 0.999999) : 0.0;
  return 0.5 * std::log(1 - bounded * bounded);
}

// ---- the map in normalised coordinates ----
// u = (x - centre) / radius of MOVING; X = (polynomial of u, v) / (w0 + w1 u + w2 v) + origin of FIXED. Every kind
// fits in.

struct Frame {
  double cx = 0, cy = 0, radius = 1;
};

struct FloatMap {
  float x[6], y[6], w[3];
};

FR_HD void map_point(const FloatMap& m, float u, float v, float& x, float& y, float& w) {
  const float uu = u * u, uv = u * v, vv = v * v;
  w = std::fmaf(m.w[2], v, std::fmaf(m.w[1], u, m.w[0]));
  const float inverse = 1 / w;
  x = std::fmaf(m.x[5], vv,
                std::fmaf(m.x[4], uv, std::fmaf(m.x[3], uu, std::fmaf(m.x[2], v, std::fmaf(m.x[1], u, m.x[0]))))) *
      inverse;
  y = std::fmaf(m.y[5], vv,
                std::fmaf(m.y[4], uv, std::fmaf(m.y[3], uu, std::fmaf(m.y[2], v, std::fmaf(m.y[1], u, m.y[0]))))) *
      inverse;
}

// ---- sampling
// --------------------------------------------------------------------------------------------------------

struct Sample {
  float f[3], gx[3], gy[3];  // strength, c2, s2 and their derivatives by level pixel
};

// Bilinear at level pixel (x, y), the outermost half pixel repeating the edge; all 0 outside the level.
FR_HD Sample sample(const std::uint32_t* data, std::ptrdiff_t stride, int width, int height, float x, float y) {
  const float right = static_cast<float>(width - 1), bottom = static_cast<float>(height - 1);
  const float in = (x > -0.5f) & (y > -0.5f) & (x < right + 0.5f) & (y < bottom + 0.5f) ? 1.0f : 0.0f;
  // Written so that a NaN ends at 0.
  const float cx = x > 0 ? (x < right ? x : right) : 0.0f, cy = y > 0 ? (y < bottom ? y : bottom) : 0.0f;
  std::int32_t ix = static_cast<std::int32_t>(cx), iy = static_cast<std::int32_t>(cy);
  ix = ix > width - 2 ? width - 2 : ix;
  iy = iy > height - 2 ? height - 2 : iy;
  const float a = cx - static_cast<float>(ix), b = cy - static_cast<float>(iy);
  const std::int32_t at = iy * static_cast<std::int32_t>(stride) + ix, below = at + static_cast<std::int32_t>(stride);
  const std::uint32_t p00 = data[at], p01 = data[at + 1], p10 = data[below], p11 = data[below + 1];
  Sample out;
#define FR_CHANNEL(k, of)                                                               \
  {                                                                                     \
    const float f00 = of(p00), f10 = of(p10), dx0 = of(p01) - f00, dx1 = of(p11) - f10; \
    const float top = std::fmaf(a, dx0, f00), low = std::fmaf(a, dx1, f10);             \
    out.f[k] = std::fmaf(b, low - top, top) * in;                                       \
    out.gx[k] = std::fmaf(b, dx1 - dx0, dx0) * in;                                      \
    out.gy[k] = (low - top) * in;                                                       \
  }
  FR_CHANNEL(0, strength_of)
  FR_CHANNEL(1, c2_of)
  FR_CHANNEL(2, s2_of)
#undef FR_CHANNEL
  return out;
}

FR_HD bool is_inside(const std::uint32_t* data, std::ptrdiff_t stride, int width, int height, float x, float y,
                     float w) {
  if (!(w > 0 && x > -0.5f && y > -0.5f && x < static_cast<float>(width) - 0.5f &&
        y < static_cast<float>(height) - 0.5f))
    return false;
  const int ix = static_cast<int>(x + 0.5f), iy = static_cast<int>(y + 0.5f);
  return data[iy * stride + ix] >> 24 != 0;
}

// How the doubled direction across a line turns under a local map with Jacobian (a b; c d): by the map's nearest
// similarity. c2' = m00 c2 + m01 s2, s2' = m10 c2 + m11 s2.
struct Turn {
  double m00 = 1, m01 = 0, m10 = 0, m11 = 1;
};
FR_HD Turn turn_of(double a, double b, double c, double d) {
  const bool mirrored = a * d - b * c < 0;
  const double p = mirrored ? a - d : a + d, q = mirrored ? c + b : c - b;  // proportional to cos, sin
  const double n = p * p + q * q;
  if (!(n > 0)) return {};
  const double cos2 = (p * p - q * q) / n, sin2 = 2 * p * q / n;
  if (mirrored) return {cos2, sin2, sin2, -cos2};
  return {cos2, -sin2, sin2, cos2};
}

}  // namespace fastretina::refine_math
