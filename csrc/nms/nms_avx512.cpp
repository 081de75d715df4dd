#include <algorithm>
#include <bit>
#include <cstring>

#include "core/target.h"
#include "nms/nms_scan.h"

#if FR_X86
#include <immintrin.h>

namespace fastretina::cpu {
namespace {

inline __mmask16 low_lanes(int n) { return n >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << n) - 1); }

// The first sieve, for one row of a map that somebody else owns (detect's kernel does it while it makes the rows).
FR_AVX512 void flag_row(const float* row, const float* above, const float* below, int width, float threshold,
                        std::uint16_t* flags) {
  const __m512 limit = _mm512_set1_ps(threshold);
  for (int x = 0; x < width; x += 16) {
    __mmask16 lanes = low_lanes(width - x);
    const __m512 c = _mm512_maskz_loadu_ps(lanes, row + x);
    __mmask16 keep = _mm512_mask_cmp_ps_mask(lanes, c, limit, _CMP_GT_OQ);
    if (above) keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_maskz_loadu_ps(lanes, above + x), _CMP_GT_OQ);
    if (below) keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_maskz_loadu_ps(lanes, below + x), _CMP_GE_OQ);
    flags[x / 16] = keep;
  }
}

// The second sieve: the columns of a row that also come before their horizontal neighbours -> columns, how many.
FR_AVX512 int compare_sideways(const float* row, int width, const std::uint16_t* flags, int* columns) {
  const __m512i lane_ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const int words = flag_words(width);
  int n = 0;
  for (int w32 = 0; w32 < words; w32 += 32) {
    // Words that have a bit set. Going from one to the next costs one branch a 32, not one a word.
    const __mmask32 present = words - w32 >= 32 ? ~__mmask32{0} : (__mmask32{1} << (words - w32)) - 1;
    const __m512i some = _mm512_maskz_loadu_epi16(present, flags + w32);
    for (std::uint32_t left = _mm512_test_epi16_mask(some, some); left != 0; left &= left - 1) {
      const int word = w32 + std::countr_zero(left), x = 16 * word;
      const int remaining = width - x;
      const __mmask16 lanes = low_lanes(remaining);
      const __mmask16 has_left = x == 0 ? lanes & 0xFFFE : lanes;
      const __mmask16 has_right = low_lanes(remaining - 1);
      const __m512 c = _mm512_maskz_loadu_ps(lanes, row + x);
      // A neighbour that is not there does not compete.
      const __mmask16 lost_left =
          _mm512_mask_cmp_ps_mask(has_left, _mm512_maskz_loadu_ps(has_left, row + x - 1), c, _CMP_GE_OQ);
      const __mmask16 lost_right =
          _mm512_mask_cmp_ps_mask(has_right, _mm512_maskz_loadu_ps(has_right, row + x + 1), c, _CMP_GT_OQ);
      const auto keep = static_cast<__mmask16>(flags[word] & lanes & ~(lost_left | lost_right));
      _mm512_storeu_si512(columns + n,
                          _mm512_maskz_compress_epi32(keep, _mm512_add_epi32(lane_ids, _mm512_set1_epi32(x))));
      n += std::popcount(static_cast<unsigned>(keep));
    }
  }
  return n;
}

// The third sieve. The rows above are all earlier and those below all later in row-major order: two running maxima and
// the row itself decide, without a branch.
FR_AVX512 inline bool first_in_window(const View<const float>& map, int radius, int x, int y) {
  const int x0 = std::max(x - radius, 0), x1 = std::min(x + radius, map.width - 1);
  const int y0 = std::max(y - radius, 0), y1 = std::min(y + radius, map.height - 1);
  const __m512 c = _mm512_set1_ps(map.row(y)[x]);
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  unsigned lost = 0;
  for (int u = x0; u <= x1; u += 16) {
    const __mmask16 lanes = low_lanes(x1 - u + 1);
    const __mmask16 left = u < x ? low_lanes(x - u) : __mmask16{0};
    const float* p = map.row(y0) + u;
    __m512 earlier = nothing, later = nothing;
    for (int v = y0; v < y; ++v, p += map.stride)
      earlier = _mm512_mask_max_ps(earlier, lanes, earlier, _mm512_maskz_loadu_ps(lanes, p));
    const __m512 here = _mm512_maskz_loadu_ps(lanes, p);
    for (int v = y; v <= y1; ++v, p += map.stride)
      later = _mm512_mask_max_ps(later, lanes, later, _mm512_maskz_loadu_ps(lanes, p));
    lost |= _mm512_cmp_ps_mask(earlier, c, _CMP_GE_OQ);
    lost |= _mm512_cmp_ps_mask(later, c, _CMP_GT_OQ);
    lost |= _mm512_mask_cmp_ps_mask(left & lanes, here, c, _CMP_GE_OQ);
  }
  return lost == 0;
}

}  // namespace

FR_AVX512 int scan_avx512(const Scan& s, const std::uint16_t* flags, void* scratch, Candidate* found) {
  const int width = s.map.width, words = flag_words(width);
  auto* columns = static_cast<int*>(scratch);
  auto* row_flags = reinterpret_cast<std::uint16_t*>(columns + width + 32);
  int n = 0;
  for (int y = s.begin; y < s.end; ++y) {
    const float* row = s.map.row(y);
    if (!flags)
      flag_row(row, y > 0 ? s.map.row(y - 1) : nullptr, y + 1 < s.map.height ? s.map.row(y + 1) : nullptr, width,
               s.threshold, row_flags);
    const int count =
        compare_sideways(row, width, flags ? flags + static_cast<std::ptrdiff_t>(y) * words : row_flags, columns);
    const std::uint8_t* mask = s.mask.empty() ? nullptr : s.mask.row(s.origin + y);
    const auto base = static_cast<std::uint32_t>(s.origin + y) * static_cast<std::uint32_t>(width);
    for (int i = 0; i < count; ++i) {
      const int x = columns[i];
      found[n] = {row[x], base + static_cast<std::uint32_t>(x)};  // kept if n moves on
      n += static_cast<int>((!mask || mask[x]) && first_in_window(s.map, s.radius, x, y));
    }
  }
  return n;
}

}  // namespace fastretina::cpu
#endif
