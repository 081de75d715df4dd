// The kernels of the room `image` that a compiler does not vectorise well. The same bits as their plain versions.
#include "core/target.h"

#if FR_X86
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12: false alarms from its own intrinsics
#include <immintrin.h>

#include <bit>

#include "image/image_kernels.h"
#include "image/image_math.h"

namespace fastretina::image_kernels::avx512 {

namespace {

FR_AVX512 inline __m512 to_unit(__m512 v, __m512 unit) {
  v = _mm512_mul_ps(unit, v);
  v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ), v);
  return _mm512_min_ps(v, _mm512_set1_ps(1.f));
}

// Elements 4 k ... 4 k + 3 of 64 summed to element k: (0 + 1) + (2 + 3).
FR_AVX512 inline __m512 sum_fours(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_ps(c, d, 0x88), _mm512_shuffle_ps(c, d, 0xdd));
  const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xdd));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_ps(order, sums);
}

}  // namespace

FR_AVX512 void resize_row(float* out, const float* sums, const Taps& taps, int n, float unit) {
  const __m512 units = _mm512_set1_ps(unit);
  for (int i = 0; i < n; i += 16) {
    const __m512i first = _mm512_loadu_si512(taps.first + i);
    const float* weights = taps.weights + i;
    __m512 sum = _mm512_setzero_ps();
    if (taps.narrow) {  // all that the 16 outputs read fits into two registers
      const float* base = sums + taps.first[i];
      const __m512 low = _mm512_loadu_ps(base), high = _mm512_loadu_ps(base + 16);
      __m512i index = _mm512_sub_epi32(first, _mm512_set1_epi32(taps.first[i]));
      for (int t = 0; t < taps.count; ++t, weights += taps.stride) {
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(weights), _mm512_permutex2var_ps(low, index, high), sum);
        index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
      }
    } else {
      for (int t = 0; t < taps.count; ++t, weights += taps.stride)
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(weights), _mm512_i32gather_ps(first, sums + t, 4), sum);
    }
    _mm512_storeu_ps(out + i, to_unit(sum, units));
  }
}

FR_AVX512 void dark_bits(const float* row, int n, float threshold, std::uint64_t* bits) {
  const __m512 limit = _mm512_set1_ps(threshold);
  for (int word = 0; 64 * word < n; ++word) {
    std::uint64_t packed = 0;
    for (int k = 0; k < 4; ++k) {
      const __mmask16 dark = _mm512_cmp_ps_mask(_mm512_loadu_ps(row + 64 * word + 16 * k), limit, _CMP_LT_OQ);
      packed |= static_cast<std::uint64_t>(dark) << (16 * k);
    }
    const int rest = n - 64 * word;
    bits[word] = rest >= 64 ? packed : packed & ((std::uint64_t{1} << rest) - 1);
  }
}

FR_AVX512 void bits_to_bytes(const std::uint64_t* bits, int n, std::uint8_t* bytes) {
  for (int word = 0; 64 * word < n; ++word)
    _mm512_storeu_si512(bytes + 64 * word, _mm512_maskz_set1_epi8(bits[word], 1));
}

FR_AVX512 void masked_sum(const float* row, const std::uint64_t* bits, int n, float* lanes) {
  __m512 sum = _mm512_loadu_ps(lanes);
  for (int x = 0; x < n; x += 16) {
    const auto mask = static_cast<__mmask16>(bits[x / 64] >> (x % 64));
    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, row + x));
  }
  _mm512_storeu_ps(lanes, sum);
}

FR_AVX512 void cell_sums(const CellRows& in, int cells, float* s0, float* s1, float* s2) {
  const __m512 shift = _mm512_set1_ps(in.shift), one = _mm512_set1_ps(1.f);
  for (int start = 0; start < cells; start += 16) {
    __m512 c0[4], c1[4], c2[4];
    for (int k = 0; k < 4; ++k) c0[k] = c1[k] = c2[k] = _mm512_setzero_ps();
    for (int r = 0; r < 4; ++r) {
      if (!in.rows[r]) continue;
      const float* row = in.rows[r] + 4 * start;
      const std::uint64_t bits = in.bits[r][start / 16];
      for (int k = 0; k < 4; ++k) {
        const auto mask = static_cast<__mmask16>(bits >> (16 * k));
        const __m512 d = _mm512_maskz_sub_ps(mask, _mm512_loadu_ps(row + 16 * k), shift);
        c0[k] = _mm512_mask_add_ps(c0[k], mask, c0[k], one);
        c1[k] = _mm512_add_ps(c1[k], d);
        c2[k] = _mm512_fmadd_ps(d, d, c2[k]);
      }
    }
    const int count = cells - start;
    const auto store = static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
    _mm512_mask_storeu_ps(s0 + start, store, sum_fours(c0[0], c0[1], c0[2], c0[3]));
    _mm512_mask_storeu_ps(s1 + start, store, sum_fours(c1[0], c1[1], c1[2], c1[3]));
    _mm512_mask_storeu_ps(s2 + start, store, sum_fours(c2[0], c2[1], c2[2], c2[3]));
  }
}

FR_AVX512 void pick_between(const float* values, int n, std::uint32_t low, std::uint32_t high, std::uint32_t* out,
                            Between* result) {
  Between r = *result;
  const __m512i lows = _mm512_set1_epi32(static_cast<int>(low)), highs = _mm512_set1_epi32(static_cast<int>(high));
  for (int i = 0; i < n; i += 16) {
    const auto present = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    const __m512i v = _mm512_maskz_loadu_epi32(present, values + i);
    const __mmask16 below = _mm512_mask_cmp_epu32_mask(present, v, lows, _MM_CMPINT_LT);
    const __mmask16 upto = _mm512_mask_cmp_epu32_mask(present, v, highs, _MM_CMPINT_LE);
    const auto inside = static_cast<__mmask16>(upto & ~below);
    // Compressed in a register: compressing stores are slow on some machines.
    _mm512_storeu_si512(out + r.found, _mm512_maskz_compress_epi32(inside, v));
    r.below += std::popcount(static_cast<unsigned>(below));
    r.found += std::popcount(static_cast<unsigned>(inside));
  }
  *result = r;
}

}  // namespace fastretina::image_kernels::avx512
#endif
