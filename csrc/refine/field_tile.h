// What a point adds to the normal equations of refine_field, array by array for a tile of points. Host and device.
#pragma once

#include "core/field.h"
#include "refine/field_kernels.h"
#include "refine/refine_math.h"

namespace fastretina::field_kernels {

constexpr int kTile = 64;  // a multiple of kFieldPad

struct Tile {
  alignas(64) float wx[4][kTile], wy[4][kTile];
  alignas(64) float qxx[kTile], qxy[kTile], qyy[kTile];  // products of the gradients, summed over channels
  alignas(64) float with[6][kTile];                      // gradients with m (x, y), f (x, y) and of s (x, y)
  alignas(64) float ff[kTile], fm[kTile], fs[kTile];
};

// Point i of a tile at fractions (tx, ty) of its cell.
FR_HD_FLAT void weigh_point(float tx, float ty, int i, Tile& t) {
  float wx[4], wy[4];
  spline_weights(tx, wx);
  spline_weights(ty, wy);
  for (int k = 0; k < 4; ++k) t.wx[k][i] = wx[k], t.wy[k][i] = wy[k];
}

FR_HD_FLAT float moved(const Tile& t, const float control[kTaps], int i) {
  float sum = 0;
  for (int j = 0; j < 4; ++j) {
    float row = 0;
    for (int k = 0; k < 4; ++k) row = std::fmaf(t.wx[k][i], control[4 * j + k], row);
    sum = std::fmaf(t.wy[j][i], row, sum);
  }
  return sum;
}

// (x, y): where the transform alone puts it. m0, m1, m2: the MOVING values.
FR_HD_FLAT void sample_point(const FieldJob& job, const float control[2][kTaps], float x, float y, float m0, float m1,
                             float m2, int i, Tile& t) {
  const float px = x + moved(t, control[0], i), py = y + moved(t, control[1], i);
  const refine_math::Sample s = refine_math::sample(job.level, job.stride, job.width, job.height, px, py);
  const float gx0 = s.gx[0], gx1 = s.gx[1], gx2 = s.gx[2], gy0 = s.gy[0], gy1 = s.gy[1], gy2 = s.gy[2];
  t.qxx[i] = std::fmaf(gx2, gx2, std::fmaf(gx1, gx1, gx0 * gx0));
  t.qxy[i] = std::fmaf(gx2, gy2, std::fmaf(gx1, gy1, gx0 * gy0));
  t.qyy[i] = std::fmaf(gy2, gy2, std::fmaf(gy1, gy1, gy0 * gy0));
  t.with[0][i] = std::fmaf(gx2, m2, std::fmaf(gx1, m1, gx0 * m0));
  t.with[1][i] = std::fmaf(gy2, m2, std::fmaf(gy1, m1, gy0 * m0));
  t.with[2][i] = std::fmaf(gx2, s.f[2], std::fmaf(gx1, s.f[1], gx0 * s.f[0]));
  t.with[3][i] = std::fmaf(gy2, s.f[2], std::fmaf(gy1, s.f[1], gy0 * s.f[0]));
  t.with[4][i] = gx0;
  t.with[5][i] = gy0;
  t.ff[i] = std::fmaf(s.f[2], s.f[2], std::fmaf(s.f[1], s.f[1], s.f[0] * s.f[0]));
  t.fm[i] = std::fmaf(s.f[2], m2, std::fmaf(s.f[1], m1, s.f[0] * m0));
  t.fs[i] = s.f[0];
}

}  // namespace fastretina::field_kernels
