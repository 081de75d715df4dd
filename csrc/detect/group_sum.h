// The sums that make the four rows of a group from five expanded rows, sixteen columns at a time.
#pragma once

#include "core/target.h"
#include "upsample/upsample_math.h"

#if FR_X86
#include <immintrin.h>

namespace fastretina::cpu {

struct Weights {
  __m512 w0, w1, w2, w3;
};

FR_AVX512 FR_INLINE Weights broadcast(const CubicWeights& c) {
  return {_mm512_set1_ps(c.w[0]), _mm512_set1_ps(c.w[1]), _mm512_set1_ps(c.w[2]), _mm512_set1_ps(c.w[3])};
}

// cubic_sum, sixteen at a time.
FR_AVX512 FR_INLINE __m512 sum(const Weights& w, __m512 a, __m512 b, __m512 c, __m512 d) {
  return _mm512_fmadd_ps(w.w1, b, _mm512_fmadd_ps(w.w2, c, _mm512_fmadd_ps(w.w3, d, _mm512_mul_ps(w.w0, a))));
}

struct GroupRows {
  __m512 row0, row1, row2, row3;
};

FR_AVX512 FR_INLINE GroupRows group_rows(const Weights& near, const Weights& far, const float* const expanded[5],
                                         int x) {
  const __m512 a = _mm512_loadu_ps(expanded[0] + x), b = _mm512_loadu_ps(expanded[1] + x);
  const __m512 c = _mm512_loadu_ps(expanded[2] + x), d = _mm512_loadu_ps(expanded[3] + x);
  const __m512 e = _mm512_loadu_ps(expanded[4] + x);
  return {sum(far, d, c, b, a), sum(near, d, c, b, a), sum(near, b, c, d, e), sum(far, b, c, d, e)};
}

}  // namespace fastretina::cpu
#endif
