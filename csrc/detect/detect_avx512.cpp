#include "core/target.h"
#include "detect/detect_band.h"
#include "nms/nms_scan.h"
#include "upsample/upsample.h"
#include "upsample/upsample_math.h"

#if FR_X86
#include <immintrin.h>

namespace fastretina::cpu {
namespace {

struct Weights {
  __m512 w0, w1, w2, w3;
};

FR_AVX512 inline Weights broadcast(const CubicWeights& c) {
  return {_mm512_set1_ps(c.w[0]), _mm512_set1_ps(c.w[1]), _mm512_set1_ps(c.w[2]), _mm512_set1_ps(c.w[3])};
}

// cubic_sum, sixteen at a time.
FR_AVX512 inline __m512 sum(const Weights& w, __m512 a, __m512 b, __m512 c, __m512 d) {
  return _mm512_fmadd_ps(w.w1, b, _mm512_fmadd_ps(w.w2, c, _mm512_fmadd_ps(w.w3, d, _mm512_mul_ps(w.w0, a))));
}

// (The masked maximum, all lanes on: the plain one trips gcc 12's -Wmaybe-uninitialized.)
// Exceeds the threshold and the row above (earlier: a tie loses), and is not exceeded by the row below.
FR_AVX512 inline std::uint16_t flag(__m512 above, __m512 here, __m512 below, __m512 limit) {
  const __mmask16 k = _mm512_cmp_ps_mask(here, _mm512_maskz_max_ps(0xFFFF, above, limit), _CMP_GT_OQ);
  return _mm512_mask_cmp_ps_mask(k, here, below, _CMP_GE_OQ);
}

}  // namespace

// Goes down one strip of sixteen columns after the other, so that a row's vertical neighbours are in registers.
FR_AVX512 void fill_band_avx512(const float* const* expanded, int first, int last, float threshold, View<float> band,
                                std::uint16_t* flags) {
  const Weights near = broadcast(kNearPhase), far = broadcast(kFarPhase);
  const __m512 limit = _mm512_set1_ps(threshold), nothing = _mm512_set1_ps(-__builtin_inff());
  const std::ptrdiff_t words = flag_words(band.width), stride = band.stride;
  for (int word = 0; word < words; ++word) {
    const std::ptrdiff_t x = 16 * word;
    __m512 a = _mm512_loadu_ps(expanded[0] + x), b = _mm512_loadu_ps(expanded[1] + x);
    __m512 c = _mm512_loadu_ps(expanded[2] + x), d = _mm512_loadu_ps(expanded[3] + x);
    __m512 before_last = nothing, above = nothing;  // the two rows above the group
    float* out = band.data + x;
    std::uint16_t* flag_out = flags + word;
    for (int i = 0; i < last - first; ++i) {
      const __m512 e = _mm512_loadu_ps(expanded[i + 4] + x);
      const __m512 r0 = sum(far, d, c, b, a), r1 = sum(near, d, c, b, a);
      const __m512 r2 = sum(near, b, c, d, e), r3 = sum(far, b, c, d, e);
      _mm512_storeu_ps(out, r0);
      _mm512_storeu_ps(out + stride, r1);
      _mm512_storeu_ps(out + 2 * stride, r2);
      _mm512_storeu_ps(out + 3 * stride, r3);
      if (i > 0) flag_out[-words] = flag(before_last, above, r0, limit);
      flag_out[0] = flag(above, r0, r1, limit);
      flag_out[words] = flag(r0, r1, r2, limit);
      flag_out[2 * words] = flag(r1, r2, r3, limit);
      before_last = r2, above = r3;
      a = b, b = c, c = d, d = e;
      out += kStride * stride;
      flag_out += kStride * words;
    }
    flag_out[-words] = flag(before_last, above, nothing, limit);
  }
}

}  // namespace fastretina::cpu
#endif
