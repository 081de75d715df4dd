// What a point adds to the normal equations of refine: a tile of points, array by array, and which arrays are
// multiplied.
#pragma once

#include "refine/refine_kernels.h"

namespace fastretina::refine_kernels {

struct Tile {
  alignas(64) float qxx[kTile], qxy[kTile], qyy[kTile];          // products of the gradients, summed over channels
  alignas(64) float xm[kTile], ym[kTile], xf[kTile], yf[kTile];  // gradients with the values of both maps
  alignas(64) float xs[kTile], ys[kTile];                        // gradient of the strength
  alignas(64) float ff[kTile], fm[kTile], fs[kTile];
  alignas(64) float one[kTile];                  // 1 / w
  alignas(64) float b[7][kTile];                 // other basis functions
  alignas(64) float bx[2][kTile], by[2][kTile];  // those of the perspective terms
  alignas(64) float gx[12][kTile], gy[12][kTile];
};

// Point i of a tile: normalised MOVING (u, v), and its values there.
FR_HD_FLAT void sample_point(const Job& job, float u, float v, float m0, float m1, float m2, int i, Tile& t) {
  using namespace refine_math;
  const float g = job.per_plane_px;
  float x, y, w;
  map_point(job.map, u, v, x, y, w);
  const Sample s = sample(job.level, job.stride, job.width, job.height, x, y);
  const float gx0 = s.gx[0] * g, gx1 = s.gx[1] * g, gx2 = s.gx[2] * g;
  const float gy0 = s.gy[0] * g, gy1 = s.gy[1] * g, gy2 = s.gy[2] * g;
  t.qxx[i] = std::fmaf(gx2, gx2, std::fmaf(gx1, gx1, gx0 * gx0));
  t.qxy[i] = std::fmaf(gx2, gy2, std::fmaf(gx1, gy1, gx0 * gy0));
  t.qyy[i] = std::fmaf(gy2, gy2, std::fmaf(gy1, gy1, gy0 * gy0));
  t.xm[i] = std::fmaf(gx2, m2, std::fmaf(gx1, m1, gx0 * m0));
  t.ym[i] = std::fmaf(gy2, m2, std::fmaf(gy1, m1, gy0 * m0));
  t.xf[i] = std::fmaf(gx2, s.f[2], std::fmaf(gx1, s.f[1], gx0 * s.f[0]));
  t.yf[i] = std::fmaf(gy2, s.f[2], std::fmaf(gy1, s.f[1], gy0 * s.f[0]));
  t.xs[i] = gx0;
  t.ys[i] = gy0;
  t.ff[i] = std::fmaf(s.f[2], s.f[2], std::fmaf(s.f[1], s.f[1], s.f[0] * s.f[0]));
  t.fm[i] = std::fmaf(s.f[2], m2, std::fmaf(s.f[1], m1, s.f[0] * m0));
  t.fs[i] = s.f[0];
  const float inverse = 1 / w;
  t.one[i] = inverse;
  t.b[0][i] = u * inverse;
  t.b[1][i] = v * inverse;
  t.b[2][i] = u * u;
  t.b[3][i] = u * v;
  t.b[4][i] = v * v;
  t.b[5][i] = job.mirror * v;
  t.b[6][i] = -t.b[5][i];
  // Perspective: dX / dp6 = bend (X - ox) u / w and so on.
  const float px = job.bend * (x - job.ox), py = job.bend * (y - job.oy);
  t.bx[0][i] = px * t.b[0][i];
  t.bx[1][i] = px * t.b[1][i];
  t.by[0][i] = py * t.b[0][i];
  t.by[1][i] = py * t.b[1][i];
}

// d(X, Y) / d(parameter), NULL where it is 0.
struct Basis {
  const float* x[12] = {};
  const float* y[12] = {};
};

FR_HD_FLAT Basis basis_of(TransformKind kind, const Tile& t) {
  Basis b;
  if (kind == TransformKind::similarity) {
    b.x[0] = t.one, b.x[2] = t.b[0], b.x[3] = t.b[6];
    b.y[1] = t.one, b.y[2] = t.b[5], b.y[3] = t.b[0];
    return b;
  }
  const int half = kind == TransformKind::quadratic ? 6 : 3;
  const float* terms[6] = {t.one, t.b[0], t.b[1], t.b[2], t.b[3], t.b[4]};
  for (int i = 0; i < half; ++i) b.x[i] = b.y[half + i] = terms[i];
  if (kind == TransformKind::homography) {
    for (int i = 0; i < 2; ++i) b.x[6 + i] = t.bx[i], b.y[6 + i] = t.by[i];
  }
  return b;
}

// Q times the basis at a point: the gradient of a parameter against the gradients of the maps. NULL: 0.
FR_HD_FLAT void weigh_point(const Tile& t, const float* bx, const float* by, int i, float* gx, float* gy) {
  if (by == nullptr) {
    gx[i] = t.qxx[i] * bx[i], gy[i] = t.qxy[i] * bx[i];
  } else if (bx == nullptr) {
    gx[i] = t.qxy[i] * by[i], gy[i] = t.qyy[i] * by[i];
  } else {
    const float a = bx[i], b = by[i];
    gx[i] = std::fmaf(t.qxy[i], b, t.qxx[i] * a);
    gy[i] = std::fmaf(t.qyy[i], b, t.qxy[i] * a);
  }
}

// A point of the lattice: the column-th MOVING pixel of a row against FIXED; everything is 0 where one shows nothing.
struct LatticePoint {
  float on, f, fc, fs, m, mc, ms;
};
FR_HD_FLAT LatticePoint lattice_point(const LatticeJob& job, std::uint32_t pixel, float column) {
  using namespace refine_math;
  const float right = static_cast<float>(job.width - 1), bottom = static_cast<float>(job.height - 1);
  const auto stride = static_cast<std::int32_t>(job.stride);
  float x, y, w;
  map_point(job.map, std::fmaf(job.du, column, job.u0), job.v, x, y, w);
  // Clamped first, so that the conversion is always defined (a NaN ends at 0) and the loop has no branch.
  const float cx = x > 0 ? (x < right ? x : right) : 0.0f, cy = y > 0 ? (y < bottom ? y : bottom) : 0.0f;
  const auto ix = static_cast<std::int32_t>(cx + 0.5f), iy = static_cast<std::int32_t>(cy + 0.5f);
  const std::uint32_t under = job.fixed[iy * stride + ix];
  const float seen = (w > 0) & (x > -0.5f) & (y > -0.5f) & (x < right + 0.5f) & (y < bottom + 0.5f) ? 1.0f : 0.0f;
  const float on = seen * static_cast<float>(static_cast<std::int32_t>(under >> 31 & pixel >> 31));
  const Sample s = sample(job.fixed, job.stride, job.width, job.height, x, y);
  return {on, s.f[0] * on, s.f[1] * on, s.f[2] * on, strength_of(pixel) * on, c2_of(pixel) * on, s2_of(pixel) * on};
}

}  // namespace fastretina::refine_kernels
