// The kernel for any machine, what every other one must equal bit for bit; and the choice among them.
#include <algorithm>
#include <cmath>

#include "match/match_epilogue.h"
#include "match/match_kernels.h"
#include "match/match_math.h"

namespace fastretina::cpu::matching {
namespace {

constexpr int kRows = 4, kWidth = 8;

void encode_bf16(const float* rows, int n, int dims, void* words) {
  float* out = static_cast<float*>(words);
  for (std::ptrdiff_t i = 0, count = std::ptrdiff_t{n} * dims; i < count; ++i) out[i] = bf16_round(rows[i]);
}

void encode_i8(const float* rows, int n, int dims, void* words) {
  float* out = static_cast<float*>(words);
  for (std::ptrdiff_t i = 0, count = std::ptrdiff_t{n} * dims; i < count; ++i) out[i] = i8_round(rows[i]);
}

void run(const Tiles& t) {
  for (int row0 = t.row_begin; row0 < t.row_end; row0 += kRows) {
    const float* a[kRows];
    for (int r = 0; r < kRows; ++r)
      a[r] = static_cast<const float*>(t.rows) + std::min(row0 + r, t.row_end - 1) * t.steps;
    for (int panel = t.panel_begin; panel < t.panel_end; ++panel) {
      const float* b = static_cast<const float*>(t.panels) + panel * t.steps * kWidth;
      float sum[kRows][kWidth] = {};
      for (std::ptrdiff_t k = 0; k < t.steps; ++k, b += kWidth)
        for (int r = 0; r < kRows; ++r)
          for (int v = 0; v < kWidth; ++v) sum[r][v] = std::fma(a[r][k], b[v], sum[r][v]);
      update_best<kWidth>(t, row0, std::min(kRows, t.row_end - row0), panel, &sum[0][0]);
    }
  }
}

void dot_pairs_scalar(const float* a, const float* b, int dims, const int* ia, const int* ib, int count, float* score) {
  for (int p = 0; p < count; ++p) {
    const float *x = a + std::ptrdiff_t{ia[p]} * dims, *y = b + std::ptrdiff_t{ib[p]} * dims;
    float sum = 0.0f;
    for (int k = 0; k < dims; ++k) sum = std::fma(x[k], y[k], sum);
    score[p] = sum;
  }
}

}  // namespace

Kernel choose_kernel(Precision precision, [[maybe_unused]] SimdLevel level) {
  Kernel kernel;
  kernel.panel_width = kWidth;
  kernel.pack = pack_panels<kWidth>;
  kernel.run = run;
#ifdef FR_MATCH_X86
  if (level >= SimdLevel::avx512bf16 && precision == Precision::bf16) return avx512bf16();
  if (level >= SimdLevel::avx512 && precision == Precision::i8) return avx512_i8();
  if (level >= SimdLevel::avx512)
    kernel = avx512_f32();
  else if (level >= SimdLevel::avx2)
    kernel = avx2_f32();
#endif
  // Without an instruction of its own, a precision is the f32 kernel on rounded values.
  if (precision == Precision::bf16) kernel.encode_fixed = kernel.encode_moving = encode_bf16;
  if (precision == Precision::i8) kernel.encode_fixed = kernel.encode_moving = encode_i8;
  return kernel;
}

void dot_pairs([[maybe_unused]] SimdLevel level, const float* a, const float* b, int dims, const int* ia, const int* ib,
               int count, float* score) {
#ifdef FR_MATCH_X86
  if (level >= SimdLevel::avx2) return dot_pairs_avx2(a, b, dims, ia, ib, count, score);
#endif
  dot_pairs_scalar(a, b, dims, ia, ib, count, score);
}

}  // namespace fastretina::cpu::matching
