#include "refine/field_kernels.h"

#include <algorithm>

#include "refine/clones.h"
#include "refine/field_tile.h"

namespace fastretina::field_kernels {
namespace {

FR_INLINE void weigh_tile(const float* __restrict tx, const float* __restrict ty, int n, Tile& t) {
  for (int i = 0; i < n; ++i) weigh_point(tx[i], ty[i], i, t);
}

FR_INLINE void sample_tile(const FieldJob& job, const float control[2][kTaps], int at, int n, Tile& t) {
  const FieldPoints& p = job.points;
  const float *__restrict x = p.x + at, *__restrict y = p.y + at;
  const float *__restrict m0 = p.m[0] + at, *__restrict m1 = p.m[1] + at, *__restrict m2 = p.m[2] + at;
  for (int i = 0; i < n; ++i) sample_point(job, control, x[i], y[i], m0[i], m1[i], m2[i], i, t);
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
    const int padded = (n + kFieldPad - 1) / kFieldPad * kFieldPad;  // points behind the end are looked at, not used
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
