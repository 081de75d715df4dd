#include "upsample/upsample_rows.h"

#include <algorithm>

#include "core/target.h"
#include "upsample/upsample_math.h"

namespace fastretina::cpu {
namespace {

// The plain loops, inlined into one function a target so that the compiler vectorises them for each.
FR_INLINE void expand_loop(const float* cells, int width, float* out) {
  for (int i = 0; i < width; ++i) {
    const float* c = cells + i;
    out[4 * i + 0] = cubic_sum(kFarPhase, c[1], c[0], c[-1], c[-2]);
    out[4 * i + 1] = cubic_sum(kNearPhase, c[1], c[0], c[-1], c[-2]);
    out[4 * i + 2] = cubic_sum(kNearPhase, c[-1], c[0], c[1], c[2]);
    out[4 * i + 3] = cubic_sum(kFarPhase, c[-1], c[0], c[1], c[2]);
  }
}

FR_INLINE void blend_loop(const float* const taps[4], int phase, int n, float* __restrict out) {
  const CubicWeights weights = phase_weights(phase);
  const float *a = taps[0], *b = taps[1], *c = taps[2], *d = taps[3];
  for (int x = 0; x < n; ++x) out[x] = cubic_sum(weights, a[x], b[x], c[x], d[x]);
}

void expand_plain(const float* cells, int width, float* out) { expand_loop(cells, width, out); }
void blend_plain(const float* const taps[4], int phase, int n, float* out) { blend_loop(taps, phase, n, out); }

#if FR_X86
FR_AVX2 void expand_avx2(const float* cells, int width, float* out) { expand_loop(cells, width, out); }
FR_AVX2 void blend_avx2(const float* const taps[4], int phase, int n, float* out) { blend_loop(taps, phase, n, out); }
#endif

}  // namespace

float* pad_row(const float* source, int width, float* buffer) {
  float* cells = buffer + kPadBefore;
  std::copy_n(source, width, cells);
  cells[-1] = cells[-2] = source[0];
  std::fill_n(cells + width, 14, source[width - 1]);
  return cells;
}

RowKernels row_kernels() {
#if FR_X86
  if (simd_level() >= SimdLevel::avx512) return {expand_avx512, blend_avx512};
  if (simd_level() >= SimdLevel::avx2) return {expand_avx2, blend_avx2};
#endif
  return {expand_plain, blend_plain};
}

void expand_rows(const RowKernels& kernels, View<const float> source, int first, int last, float* scratch, float* out,
                 int stride) {
  for (int y = first; y < last; ++y, out += stride)
    kernels.expand(pad_row(source.row(y), source.width, scratch), source.width, out);
}

}  // namespace fastretina::cpu
