#include "core/target.h"
#include "detect/detect_group.h"
#include "detect/group_sum.h"

#if FR_X86

namespace fastretina::cpu {
namespace {

// Exceeds the threshold and the row above (earlier: a tie loses), and is not exceeded by the row below.
// (The masked maximum, all lanes on: the plain one trips gcc 12's -Wmaybe-uninitialized.)
FR_AVX512 FR_INLINE std::uint16_t flag(__m512 above, __m512 here, __m512 below, __m512 limit) {
  const __mmask16 k = _mm512_cmp_ps_mask(here, _mm512_maskz_max_ps(0xFFFF, above, limit), _CMP_GT_OQ);
  return _mm512_mask_cmp_ps_mask(k, here, below, _CMP_GE_OQ);
}

}  // namespace

FR_AVX512 void fill_group_avx512(const float* const expanded[5], const float* const above[2], int width,
                                 float threshold, float* const out[4], std::uint16_t* flags_above, std::uint16_t* flags,
                                 int flag_stride) {
  const Weights near = broadcast(kNearPhase), far = broadcast(kFarPhase);
  const __m512 limit = _mm512_set1_ps(threshold), nothing = _mm512_set1_ps(-__builtin_inff());
  for (int x = 0; x < width; x += 16) {
    const auto [r0, r1, r2, r3] = group_rows(near, far, expanded, x);
    _mm512_storeu_ps(out[0] + x, r0);
    _mm512_storeu_ps(out[1] + x, r1);
    _mm512_storeu_ps(out[2] + x, r2);
    _mm512_storeu_ps(out[3] + x, r3);
    std::uint16_t* word = flags + x / 16;
    __m512 last = nothing;
    if (flags_above) {
      last = _mm512_loadu_ps(above[1] + x);
      flags_above[x / 16] = flag(_mm512_loadu_ps(above[0] + x), last, r0, limit);
    }
    word[0] = flag(last, r0, r1, limit);
    word[flag_stride] = flag(r0, r1, r2, limit);
    word[2 * flag_stride] = flag(r1, r2, r3, limit);
  }
}

}  // namespace fastretina::cpu
#endif
