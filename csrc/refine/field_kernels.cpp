#include "refine/field_kernels.h"

#include <algorithm>

#include "core/field.h"
#include "refine/clones.h"
#include "refine/refine_math.h"

namespace fastretina::field_kernels {
namespace {

using namespace refine_math;

constexpr int kTile = 64;  // a multiple of kFieldPad

struct Tile {
  alignas(64) float wx[4][kTile], wy[4][kTile];
  alignas(64) float qxx[kTile], qxy[kTile], qyy[kTile];  // products of the gradients, summed over channels
  alignas(64) float with[6][kTile];                      // gradients with m (x, y), f (x, y) and of s (x, y)
  alignas(64) float ff[kTile], fm[kTile], fs[kTile];
};

FR_INLINE void weigh_tile(const float* __restrict tx, const float* __restrict ty, int n, Tile& t) {
  for (int i = 0; i < n; ++i) {
    float wx[4], wy[4];
    spline_weights(tx[i], wx);
    spline_weights(ty[i], wy);
    for (int k = 0; k < 4; ++k) t.wx[k][i] = wx[k], t.wy[k][i] = wy[k];
  }
}

FR_INLINE float moved(const Tile& t, const float control[kTaps], int i) {
  float sum = 0;
  for (int j = 0; j < 4; ++j) {
    float row = 0;
    for (int k = 0; k < 4; ++k) row = std::fmaf(t.wx[k][i], control[4 * j + k], row);
    sum = std::fmaf(t.wy[j][i], row, sum);
  }
  return sum;
}

FR_INLINE void sample_tile(const FieldJob& job, const float control[2][kTaps], int at, int n, Tile& t) {
  const FieldPoints& p = job.points;
  const float *__restrict x = p.x + at, *__restrict y = p.y + at;
  const float *__restrict m0 = p.m[0] + at, *__restrict m1 = p.m[1] + at, *__restrict m2 = p.m[2] + at;
  for (int i = 0; i < n; ++i) {
    const float px = x[i] + moved(t, control[0], i), py = y[i] + moved(t, control[1], i);
    const Sample s = sample(job.level, job.stride, job.width, job.height, px, py);
    const float gx0 = s.gx[0], gx1 = s.gx[1], gx2 = s.gx[2], gy0 = s.gy[0], gy1 = s.gy[1], gy2 = s.gy[2];
    t.qxx[i] = std::fmaf(gx2, gx2, std::fmaf(gx1, gx1, gx0 * gx0));
    t.qxy[i] = std::fmaf(gx2, gy2, std::fmaf(gx1, gy1, gx0 * gy0));
    t.qyy[i] = std::fmaf(gy2, gy2, std::fmaf(gy1, gy1, gy0 * gy0));
    t.with[0][i] = std::fmaf(gx2, m2[i], std::fmaf(gx1, m1[i], gx0 * m0[i]));
    t.with[1][i] = std::fmaf(gy2, m2[i], std::fmaf(gy1, m1[i], gy0 * m0[i]));
    t.with[2][i] = std::fmaf(gx2, s.f[2], std::fmaf(gx1, s.f[1], gx0 * s.f[0]));
    t.with[3][i] = std::fmaf(gy2, s.f[2], std::fmaf(gy1, s.f[1], gy0 * s.f[0]));
    t.with[4][i] = gx0;
    t.with[5][i] = gy0;
    t.ff[i] = std::fmaf(s.f[2], s.f[2], std::fmaf(s.f[1], s.f[1], s.f[0] * s.f[0]));
    t.fm[i] = std::fmaf(s.f[2], m2[i], std::fmaf(s.f[1], m1[i], s.f[0] * m0[i]));
    t.fs[i] = s.f[0];
  }
}

FR_INLINE void add_scaled(float scale, const float* __restrict w, float* __restrict sums) {
  for (int k = 0; k < kTaps; ++k) sums[k] = std::fmaf(scale, w[k], sums[k]);
}

FR_INLINE void add_matrix(const Tile& t, int n, CellSums& sums) {
  float* const with[6] = {sums.gm[0], sums.gm[1], sums.gf[0], sums.gf[1], sums.gs[0], sums.gs[1]};
  for (int i = 0; i < n; ++i) {
    alignas(64) float w[kTaps];
    for (int k = 0; k < kTaps; ++k) w[k] = t.wy[k / 4][i] * t.wx[k % 4][i];
    for (int k = 0; k < kTaps; ++k) {
      add_scaled(w[k] * t.qxx[i], w, sums.xx[k]);
      add_scaled(w[k] * t.qxy[i], w, sums.xy[k]);
      add_scaled(w[k] * t.qyy[i], w, sums.yy[k]);
    }
    for (int k = 0; k < 6; ++k) add_scaled(t.with[k][i], w, with[k]);
  }
}

FR_INLINE void cell_sums_body(const FieldJob& job, const float control[2][kTaps], int begin, int end, bool with_matrix,
                              CellSums& sums) {
  if (with_matrix) sums = {};
  sums.ff = sums.fm = sums.fs = 0;
  Tile t;
  for (int at = begin; at < end; at += kTile) {
    const int n = std::min(kTile, end - at);
    const int padded = (n + kFieldPad - 1) / kFieldPad * kFieldPad;  // what lies behind a cell's end is looked at, not used
    weigh_tile(job.points.tx + at, job.points.ty + at, padded, t);
    sample_tile(job, control, at, padded, t);
    if (with_matrix) add_matrix(t, n, sums);
    for (int i = 0; i < n; ++i) {
      sums.ff += static_cast<double>(t.ff[i]);
      sums.fm += static_cast<double>(t.fm[i]);
      sums.fs += static_cast<double>(t.fs[i]);
    }
  }
}

}  // namespace

FR_CLONES(cell_sums,
          (const FieldJob& job, const float control[2][kTaps], int begin, int end, bool with_matrix, CellSums& sums),
          (job, control, begin, end, with_matrix, sums))

}  // namespace fastretina::field_kernels
