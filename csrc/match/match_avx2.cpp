// AVX2 + FMA: a tile of 4 rows x 24 columns, 12 accumulators.
#include "match/match_kernels.h"

#ifdef FR_MATCH_X86
#include <immintrin.h>

#include <limits>

#include "match/match_epilogue.h"

#define FR_MATCH_TARGET __attribute__((target("avx2,fma")))
#define FR_MATCH_INLINE FR_MATCH_TARGET __attribute__((always_inline)) inline

namespace fastretina::cpu::matching {
namespace {

constexpr int kRows = 4, kVectors = 3, kLanes = 8, kWidth = kVectors * kLanes;

FR_MATCH_INLINE void compute(const float* const* a, const float* b, std::ptrdiff_t steps, float* score) {
  __m256 sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_ps();
  for (std::ptrdiff_t k = 0; k < steps; ++k, b += kWidth) {
    const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + kLanes), b2 = _mm256_loadu_ps(b + 2 * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 x = _mm256_broadcast_ss(a[r] + k);
      sum[r][0] = _mm256_fmadd_ps(x, b0, sum[r][0]);
      sum[r][1] = _mm256_fmadd_ps(x, b1, sum[r][1]);
      sum[r][2] = _mm256_fmadd_ps(x, b2, sum[r][2]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(score + r * kWidth + v * kLanes, sum[r][v]);
}

// The same as update_best, for a whole tile and no second best.
FR_MATCH_INLINE void update_best_whole(const Tiles& t, int row0, int panel, const float* score) {
  const int column0 = panel * kWidth;
  for (int r = 0; r < kRows; ++r) {
    const float* c = score + r * kWidth;
    const __m256 top =
        _mm256_max_ps(_mm256_max_ps(_mm256_loadu_ps(c), _mm256_loadu_ps(c + kLanes)), _mm256_loadu_ps(c + 2 * kLanes));
    if (_mm256_movemask_ps(_mm256_cmp_ps(top, _mm256_set1_ps(t.row_best.score[row0 + r]), _CMP_GT_OQ)) != 0)
      for (int v = 0; v < kWidth; ++v) offer(t.row_best, row0 + r, column0 + v, c[v]);
  }
  for (int v = 0; v < kWidth; v += kLanes) {
    __m256 top = _mm256_loadu_ps(t.column_best.score + column0 + v);
    __m256 index = _mm256_loadu_ps(reinterpret_cast<const float*>(t.column_best.index + column0 + v));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 c = _mm256_loadu_ps(score + r * kWidth + v);
      index =
          _mm256_blendv_ps(index, _mm256_castsi256_ps(_mm256_set1_epi32(row0 + r)), _mm256_cmp_ps(c, top, _CMP_GT_OQ));
      top = _mm256_max_ps(top, c);
    }
    _mm256_storeu_ps(t.column_best.score + column0 + v, top);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.column_best.index + column0 + v), _mm256_castps_si256(index));
  }
}

FR_MATCH_TARGET void run(const Tiles& t) {
  alignas(32) float score[kRows * kWidth];
  for (int row0 = t.row_begin; row0 < t.row_end; row0 += kRows) {
    const float* a[kRows];
    for (int r = 0; r < kRows; ++r)
      a[r] = static_cast<const float*>(t.rows) + std::min(row0 + r, t.row_end - 1) * t.steps;
    for (int panel = t.panel_begin; panel < t.panel_end; ++panel) {
      compute(a, static_cast<const float*>(t.panels) + panel * t.steps * kWidth, t.steps, score);
      const bool whole = row0 + kRows <= t.row_end && (panel + 1) * kWidth <= t.columns;
      if (whole && t.row_best.second == nullptr)
        update_best_whole(t, row0, panel, score);
      else
        update_best<kWidth>(t, row0, std::min(kRows, t.row_end - row0), panel, score);
    }
  }
}

}  // namespace

Kernel avx2_f32() {
  Kernel kernel;
  kernel.panel_width = kWidth;
  kernel.pack = pack_panels<kWidth>;
  kernel.run = run;
  return kernel;
}

// A chain waits four cycles for every step, so eight run side by side.
FR_MATCH_TARGET void dot_pairs_avx2(const float* a, const float* b, int dims, const int* ia, const int* ib, int count,
                                    float* score) {
  constexpr int kChains = 8;
  for (int p = 0; p < count; p += kChains) {
    const float *x[kChains], *y[kChains];
    float sum[kChains] = {};
    for (int c = 0; c < kChains; ++c) {  // chains past the end repeat the last one
      const int at = std::min(p + c, count - 1);
      x[c] = a + std::ptrdiff_t{ia[at]} * dims;
      y[c] = b + std::ptrdiff_t{ib[at]} * dims;
    }
    for (int k = 0; k < dims; ++k)
#pragma GCC unroll 8
      for (int c = 0; c < kChains; ++c) sum[c] = __builtin_fmaf(x[c][k], y[c][k], sum[c]);
    for (int c = 0; c < kChains && p + c < count; ++c) score[p + c] = sum[c];
  }
}

}  // namespace fastretina::cpu::matching
#endif
