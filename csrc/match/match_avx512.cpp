// AVX-512: f32 by FMA, i8 by VNNI.
#include "match/match_kernels.h"

#ifdef FR_MATCH_X86
#define FR_MATCH_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#include "match/match_math.h"
#include "match/match_tile_avx512.h"

namespace fastretina::cpu::matching {
namespace {

struct F32 {
  using Word = float;
  using Sum = __m512;
  FR_MATCH_INLINE static Sum start(const std::int32_t*, int) { return _mm512_setzero_ps(); }
  FR_MATCH_INLINE static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  FR_MATCH_INLINE static __m512 broadcast(const float* p) { return _mm512_set1_ps(*p); }
  FR_MATCH_INLINE static Sum step(Sum sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
  FR_MATCH_INLINE static __m512 score(Sum sum) { return sum; }
};

// VPDPBUSD multiplies unsigned by signed bytes: fixed values carry an offset of 128, and a column's sum starts from
// -128 times the sum of its bytes.
struct I8 {
  using Word = std::int32_t;
  using Sum = __m512i;
  FR_MATCH_INLINE static Sum start(const std::int32_t* start, int column) { return _mm512_loadu_si512(start + column); }
  FR_MATCH_INLINE static __m512i load(const Word* p) { return _mm512_loadu_si512(p); }
  FR_MATCH_INLINE static __m512i broadcast(const Word* p) { return _mm512_set1_epi32(*p); }
  // Not the intrinsic: GCC 12 spills every sum in every step with it, which halves the speed.
  FR_MATCH_INLINE static Sum step(Sum sum, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  FR_MATCH_INLINE static __m512 score(Sum sum) { return _mm512_cvtepi32_ps(sum); }
};

// 127 x, rounded to even and clamped, 16 at a time: i8_round.
FR_MATCH_INLINE __m512i i8_round16(__m512 x) {
  const __m512 top = _mm512_set1_ps(kI8Scale), low = _mm512_set1_ps(-kI8Scale);
  const __m512 rounded = _mm512_roundscale_ps(_mm512_mul_ps(top, x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(rounded, low), top));
}

FR_MATCH_INLINE void encode_bytes(const float* rows, int n, int dims, int offset, void* words) {
  const std::ptrdiff_t stride = (dims + 3) / 4 * 4;
  for (int i = 0; i < n; ++i) {
    std::uint8_t* out = static_cast<std::uint8_t*>(words) + i * stride;
    for (int k = 0; k < dims; k += kLanes) {
      const int width = dims - k < kLanes ? dims - k : kLanes;
      const auto inside = static_cast<__mmask16>((1u << width) - 1);
      const auto whole = static_cast<__mmask16>((1u << ((width + 3) / 4 * 4)) - 1);  // up to the end of the word
      const __m512i q = i8_round16(_mm512_maskz_loadu_ps(inside, rows + std::ptrdiff_t{i} * dims + k));
      _mm512_mask_cvtepi32_storeu_epi8(out + k, whole, _mm512_add_epi32(q, _mm512_set1_epi32(offset)));
    }
  }
}

FR_MATCH_TARGET void encode_unsigned(const float* rows, int n, int dims, void* words) {
  encode_bytes(rows, n, dims, 128, words);
}
FR_MATCH_TARGET void encode_signed(const float* rows, int n, int dims, void* words) {
  encode_bytes(rows, n, dims, 0, words);
}

}  // namespace

Kernel avx512_f32() {
  Kernel kernel;
  kernel.panel_width = kWidth;
  kernel.pack = pack;
  kernel.run = run<F32>;
  return kernel;
}

Kernel avx512_i8() {
  Kernel kernel = avx512_f32();
  kernel.per_word = 4;
  kernel.moving_start = true;
  kernel.encode_fixed = encode_unsigned;
  kernel.encode_moving = encode_signed;
  kernel.run = run<I8>;
  return kernel;
}

}  // namespace fastretina::cpu::matching
#endif
