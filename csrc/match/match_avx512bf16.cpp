// AVX-512 BF16. VDPBF16PS does, in one lane, sum = fma(a.high, b.high, sum) and then sum = fma(a.low, b.low, sum), both
// rounded to nearest even, with subnormals flushed (there are none: kBf16Smallest). So the earlier element of a pair
// goes into the high half, and the chain is k = 0, 1, ... as everywhere.
#include "match/match_kernels.h"

#ifdef FR_MATCH_X86
#define FR_MATCH_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma")))
#include "match/match_math.h"
#include "match/match_screen.h"
#include "match/match_tile_avx512.h"

namespace fastretina::cpu::matching {
namespace {

struct Bf16 {
  using Word = std::int32_t;
  using Sum = __m512;
  FR_MATCH_INLINE static Sum start(const std::int32_t*, int) { return _mm512_setzero_ps(); }
  FR_MATCH_INLINE static __m512i load(const Word* p) { return _mm512_loadu_si512(p); }
  FR_MATCH_INLINE static __m512i broadcast(const Word* p) { return _mm512_set1_epi32(*p); }
  FR_MATCH_INLINE static Sum step(Sum sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  FR_MATCH_INLINE static __m512 score(Sum sum) { return sum; }
};

FR_MATCH_TARGET void encode(const float* rows, int n, int dims, void* words) {
  const std::ptrdiff_t steps = (dims + 1) / 2;
  for (int i = 0; i < n; ++i) {
    const float* x = rows + std::ptrdiff_t{i} * dims;
    std::uint32_t* out = static_cast<std::uint32_t*>(words) + i * steps;
    for (int p = 0; p < dims / 2; ++p) out[p] = bf16_bits(x[2 * p]) << 16 | bf16_bits(x[2 * p + 1]);
    if (dims % 2 != 0) out[dims / 2] = bf16_bits(x[dims - 1]) << 16;
  }
}

FR_MATCH_TARGET void run_or_screen(const Tiles& t) {
  if (t.row_best.close != nullptr)
    run_tiles<Bf16, Keep::close>(t);
  else
    run<Bf16>(t);
}

// The larger, NaN above all.
float worse(float a, float b) { return b > a || b != b ? b : a; }

}  // namespace

FR_MATCH_TARGET Bf16Spread bf16_spread(const float* rows, int n, int dims) {
  Bf16Spread worst;
  for (int i = 0; i < n; ++i) {
    __m512 norm = _mm512_setzero_ps(), residual = _mm512_setzero_ps();
    for (int k = 0; k < dims; k += kLanes) {
      const auto inside = static_cast<__mmask16>(dims - k < kLanes ? (1u << (dims - k)) - 1 : 0xFFFFu);
      const __m512 x = _mm512_maskz_loadu_ps(inside, rows + std::ptrdiff_t{i} * dims + k);
      const auto large = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(kBf16Smallest), _CMP_GE_OQ);
      const __m256i half = reinterpret_cast<__m256i>(_mm512_maskz_cvtneps_pbh(large, x));
      const __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
      const __m512 rest = _mm512_sub_ps(x, back);
      norm = _mm512_fmadd_ps(x, x, norm);
      residual = _mm512_fmadd_ps(rest, rest, residual);
    }
    worst.norm = worse(worst.norm, _mm512_reduce_add_ps(norm));
    worst.residual = worse(worst.residual, _mm512_reduce_add_ps(residual));
  }
  return {std::sqrt(worst.norm), std::sqrt(worst.residual)};
}

Kernel avx512bf16() {
  Kernel kernel;
  kernel.panel_width = kWidth;
  kernel.per_word = 2;
  kernel.encode_fixed = encode;
  kernel.encode_moving = encode;
  kernel.pack = pack;
  kernel.run = run_or_screen;
  return kernel;
}

}  // namespace fastretina::cpu::matching
#endif
