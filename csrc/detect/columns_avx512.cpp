#include <bit>

#include "core/target.h"
#include "detect/detect_group.h"
#include "detect/group_sum.h"

#if FR_X86
namespace fastretina::cpu {
namespace {

constexpr int kReach = 4;  // the radius
constexpr __mmask16 kAll = 0xFFFF;
constexpr int kRowBit = 30;  // a column and its row in the group share an int: widths are below 2^30
constexpr unsigned kColumnMask = (1u << kRowBit) - 1;

// The masked forms, all lanes on: the plain ones trip gcc 12's -Wmaybe-uninitialized.
FR_AVX512 FR_INLINE __m512 higher(__m512 a, __m512 b) { return _mm512_maskz_max_ps(kAll, a, b); }

// Elements kBy ... kBy + 15 of two neighbouring vectors.
template <int kBy>
FR_AVX512 FR_INLINE __m512 shifted(__m512 low, __m512 high) {
  return _mm512_castsi512_ps(_mm512_maskz_alignr_epi32(kAll, _mm512_castps_si512(high), _mm512_castps_si512(low), kBy));
}

// Which columns are the highest within kReach columns. Maxima of two and four columns from each one on, kept for the
// vectors on either side, make the maximum of nine.
FR_AVX512 void flag_columns(const float* highest, const float* above, int width, float threshold,
                            std::uint16_t* flags) {
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff()), limit = _mm512_set1_ps(threshold);
  __m512 here = _mm512_loadu_ps(highest), next = _mm512_loadu_ps(highest + 16);
  __m512 two = higher(here, shifted<1>(here, next));
  const __m512 two_before = higher(nothing, shifted<1>(nothing, here));
  __m512 four_before = higher(two_before, shifted<2>(two_before, two));
  for (int x = 0; x < width; x += 16) {
    const __m512 after = _mm512_loadu_ps(highest + x + 32);
    const __m512 two_next = higher(next, shifted<1>(next, after));
    const __m512 four = higher(two, shifted<2>(two, two_next));
    const __m512 nine = higher(higher(shifted<12>(four_before, four), four), shifted<kReach>(here, next));
    const __mmask16 first = _mm512_cmp_ps_mask(here, nine, _CMP_GE_OQ);
    flags[x / 16] = _mm512_mask_cmp_ps_mask(first, here, higher(_mm512_loadu_ps(above + x), limit), _CMP_GT_OQ);
    four_before = four;
    two = two_next;
    here = next;
    next = after;
  }
}

FR_AVX512 FR_INLINE unsigned allowed_lanes(const std::uint8_t* mask, int x, int width) {
  const int n = width - x;
  const auto lanes = static_cast<__mmask16>(n >= 16 ? 0xFFFFu : (1u << n) - 1);
  const __m128i values = _mm_maskz_loadu_epi8(lanes, mask + x);
  return _mm_test_epi8_mask(values, values);
}

// Is there another flag within kReach columns of one of these? Then they tie.
bool ties(const std::uint16_t* flags) {
  const unsigned m = unsigned{flags[-1]} >> 12 | unsigned{flags[0]} << 4 | (flags[1] & 0xFu) << 20;
  return (m & (m << 1 | m << 2 | m << 3 | m << 4)) != 0;
}

// The flagged columns that are not exceeded by the row after the group, each with the row of its highest pixel (the
// first of equals). Columns that tie are left with a look at their whole windows.
FR_AVX512 int list_pixels(const Scan& scan, const Rows& rows, const Group& group, const int* words, int count,
                          unsigned* pixels) {
  const __m512i lane_ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i one_row = _mm512_set1_epi32(1 << kRowBit);
  unsigned* next = pixels;
  for (int i = 0; i < count; ++i) {
    const int word = words[i], x = 16 * word;
    const __m512 top = _mm512_loadu_ps(group.highest + x);
    const __mmask16 after = _mm512_cmp_ps_mask(top, _mm512_loadu_ps(group.near[4] + x), _CMP_GE_OQ);
    unsigned keep = group.flags[word] & unsigned{after};
    // Bits of the columns whose highest pixel is not in row 0; 0 or 1; 0, 1 or 2.
    const __mmask16 below0 = _mm512_cmp_ps_mask(top, _mm512_loadu_ps(group.own[0] + x), _CMP_NEQ_UQ);
    const __mmask16 below1 = _mm512_mask_cmp_ps_mask(below0, top, _mm512_loadu_ps(group.own[1] + x), _CMP_NEQ_UQ);
    const __mmask16 below2 = _mm512_mask_cmp_ps_mask(below1, top, _mm512_loadu_ps(group.own[2] + x), _CMP_NEQ_UQ);
    if (!scan.mask.empty()) {
      const int y = group.y, width = rows.width;
      const unsigned in0 = allowed_lanes(scan.mask.row(y), x, width) & ~unsigned{below0};
      const unsigned in1 = allowed_lanes(scan.mask.row(y + 1), x, width) & below0 & ~unsigned{below1};
      const unsigned in2 = allowed_lanes(scan.mask.row(y + 2), x, width) & below1 & ~unsigned{below2};
      keep &= in0 | in1 | in2 | (allowed_lanes(scan.mask.row(y + 3), x, width) & below2);
    }
    if (ties(group.flags + word)) [[unlikely]]
      for (unsigned rest = keep; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        const unsigned bit = 1u << lane;
        const int row = ((below0 & bit) != 0) + ((below1 & bit) != 0) + ((below2 & bit) != 0);
        if (!first_in_window_avx512(rows, kReach, x + lane, group.y + row)) keep &= ~bit;
      }
    __m512i pixel = _mm512_add_epi32(lane_ids, _mm512_set1_epi32(x));
    pixel = _mm512_mask_add_epi32(pixel, below0, pixel, one_row);
    pixel = _mm512_mask_add_epi32(pixel, below1, pixel, one_row);
    pixel = _mm512_mask_add_epi32(pixel, below2, pixel, one_row);
    _mm512_storeu_si512(next, _mm512_maskz_compress_epi32(static_cast<__mmask16>(keep), pixel));
    next += std::popcount(keep);
  }
  return static_cast<int>(next - pixels);
}

// Of the 81 pixels of a window, those of the group are dealt with; five rows of the others remain: as many of the four
// before the group as lie in the window, and of the four after it. found[n] is always written: no branch.
FR_AVX512 int verify(const Rows& rows, const Group& group, const unsigned* pixels, int count, Candidate* found) {
  constexpr __mmask16 kWindow = (1u << (2 * kReach + 1)) - 1;
  const auto width = static_cast<std::uint32_t>(rows.width);
  const std::uint32_t base = static_cast<std::uint32_t>(group.y) * width;
  Candidate* next = found;
  for (int i = 0; i < count; ++i) {
    const unsigned row = pixels[i] >> kRowBit, column = pixels[i] & kColumnMask;
    const auto x = static_cast<std::ptrdiff_t>(column);
    const float* const* near = group.near + row;
    const float score = group.own[row][x];
    const __m512 c = _mm512_set1_ps(score);
    __m512 most = _mm512_maskz_loadu_ps(kWindow, near[0] + x - kReach);
    for (int k = 1; k < 5; ++k) most = higher(most, _mm512_maskz_loadu_ps(kWindow, near[k] + x - kReach));
    bool first = _mm512_mask_cmp_ps_mask(kWindow, most, c, _CMP_GT_OQ) == 0;
    if (_mm512_mask_cmp_ps_mask(kWindow, most, c, _CMP_EQ_OQ) != 0) [[unlikely]]
      first = first_in_window_avx512(rows, kReach, static_cast<int>(column), group.y + static_cast<int>(row));
    *next = {score, base + row * width + column};
    next += first;
  }
  return static_cast<int>(next - found);
}

}  // namespace

FR_AVX512 void fill_columns_avx512(const float* const expanded[5], const float* above, int width, float threshold,
                                   float* const out[4], float* highest, std::uint16_t* flags) {
  const Weights near = broadcast(kNearPhase), far = broadcast(kFarPhase);
  for (int x = 0; x < width; x += 16) {
    const GroupRows r = group_rows(near, far, expanded, x);
    _mm512_storeu_ps(out[0] + x, r.row0);
    _mm512_storeu_ps(out[1] + x, r.row1);
    _mm512_storeu_ps(out[2] + x, r.row2);
    _mm512_storeu_ps(out[3] + x, r.row3);
    _mm512_storeu_ps(highest + x, higher(higher(r.row0, r.row1), higher(r.row2, r.row3)));
  }
  if (width % 16 != 0) {
    const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
    const auto past = static_cast<__mmask16>(0xFFFFu << (width % 16));
    const int x = width / 16 * 16;
    for (int k = 0; k < 4; ++k) _mm512_mask_storeu_ps(out[k] + x, past, nothing);
    _mm512_mask_storeu_ps(highest + x, past, nothing);
  }
  flag_columns(highest, above, width, threshold, flags);
}

FR_AVX512 int scan_group_avx512(const Scan& scan, const Rows& rows, const Group& group, void* scratch,
                                Candidate* found) {
  const int stride = flag_stride(rows.width);
  auto* pixels = static_cast<unsigned*>(scratch);
  auto* words = reinterpret_cast<int*>(pixels + 16 * stride);
  const int word_count = list_words_avx512(group.flags, stride, words);
  const int count = list_pixels(scan, rows, group, words, word_count, pixels);
  return verify(rows, group, pixels, count, found);
}

}  // namespace fastretina::cpu
#endif
