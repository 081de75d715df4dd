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

// The second sieve for one word of flags that may lie at the edge of the map: a neighbour that is not there does not
// compete.
FR_AVX512 __mmask16 compare_sideways_at_edge(const float* row, int width, int x, __mmask16 flags) {
  const int remaining = width - x;
  const __mmask16 lanes = low_lanes(remaining) & flags;
  const auto has_left = static_cast<__mmask16>(x == 0 ? lanes & 0xFFFE : lanes);
  const auto has_right = static_cast<__mmask16>(low_lanes(remaining - 1) & flags);
  const __m512 c = _mm512_maskz_loadu_ps(lanes, row + x);
  const __m512 left = _mm512_maskz_loadu_ps(has_left, row + x - 1);
  const __m512 right = _mm512_maskz_loadu_ps(has_right, row + x + 1);
  const unsigned lost =
      _mm512_mask_cmp_ps_mask(has_left, left, c, _CMP_GE_OQ) | _mm512_mask_cmp_ps_mask(has_right, right, c, _CMP_GT_OQ);
  return static_cast<__mmask16>(lanes & ~lost);
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
      __mmask16 keep = flags[word];
      if (word > 0 && word + 1 < words) {
        const __m512 c = _mm512_loadu_ps(row + x);
        keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_loadu_ps(row + x - 1), _CMP_GT_OQ);
        keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_loadu_ps(row + x + 1), _CMP_GE_OQ);
      } else {
        keep = compare_sideways_at_edge(row, width, x, keep);
      }
      const __m512i ids = _mm512_add_epi32(lane_ids, _mm512_set1_epi32(x));
      _mm512_storeu_si512(columns + n, _mm512_maskz_compress_epi32(keep, ids));
      n += std::popcount(static_cast<unsigned>(keep));
    }
  }
  return n;
}

// The third sieve. The rows above are all earlier and those below all later in row-major order: two running maxima and
// the row itself decide, without a branch. `p`: the window's first pixel in these lanes; `before`: lanes left of the
// pixel; above, below: rows of the window on either side.
FR_AVX512 FR_INLINE unsigned lost_lanes(const float* p, std::ptrdiff_t stride, int above, int below, __mmask16 lanes,
                                        __mmask16 before, __m512 c) {
  __m512 earlier = _mm512_set1_ps(-__builtin_inff()), later = earlier;
  for (int v = 0; v < above; ++v, p += stride)
    earlier = _mm512_mask_max_ps(earlier, lanes, earlier, _mm512_maskz_loadu_ps(lanes, p));
  const __m512 here = _mm512_maskz_loadu_ps(lanes, p);
  later = _mm512_mask_mov_ps(later, lanes, here);
  for (int v = 0; v < below; ++v)
    later = _mm512_mask_max_ps(later, lanes, later, _mm512_maskz_loadu_ps(lanes, p += stride));
  return _mm512_cmp_ps_mask(earlier, c, _CMP_GE_OQ) | _mm512_cmp_ps_mask(later, c, _CMP_GT_OQ) |
         _mm512_mask_cmp_ps_mask(before, here, c, _CMP_GE_OQ);
}

// Any radius, anywhere in the map.
FR_AVX512 bool first_in_window(const View<const float>& map, int radius, int x, int y) {
  const int x0 = std::max(x - radius, 0), x1 = std::min(x + radius, map.width - 1);
  const int y0 = std::max(y - radius, 0), y1 = std::min(y + radius, map.height - 1);
  const __m512 c = _mm512_set1_ps(map.row(y)[x]);
  unsigned lost = 0;
  for (int u = x0; u <= x1; u += 16) {
    const __mmask16 lanes = low_lanes(x1 - u + 1), before = u < x ? low_lanes(x - u) : __mmask16{0};
    lost |= lost_lanes(map.row(y0) + u, map.stride, y - y0, y1 - y, lanes, before, c);
  }
  return lost == 0;
}

struct RowSearch {
  View<const float> map;
  int y;                     // in the map
  std::uint32_t base;        // index of the row's first pixel
  const std::uint8_t* mask;  // of the row, or NULL
};

// Appends the columns that are first in their window. Without a branch: `found[n]` is kept if n moves on.
template <int kRadius>  // 0: any
FR_AVX512 int verify(const RowSearch& r, int any_radius, const int* columns, int count, Candidate* found) {
  const int radius = kRadius > 0 ? kRadius : any_radius;
  const float* row = r.map.row(r.y);
  const bool rows_inside = r.y >= radius && r.y + radius < r.map.height && radius <= 7;
  const __mmask16 lanes = low_lanes(2 * radius + 1), before = low_lanes(radius);
  int n = 0;
  for (int i = 0; i < count; ++i) {
    const int x = columns[i];
    bool first;
    if (rows_inside && x >= radius && x + radius < r.map.width)  // one vector holds a row of the window
      first = lost_lanes(row - radius * r.map.stride + x - radius, r.map.stride, radius, radius, lanes, before,
                         _mm512_set1_ps(row[x])) == 0;
    else
      first = first_in_window(r.map, radius, x, r.y);
    found[n] = {row[x], r.base + static_cast<std::uint32_t>(x)};
    n += static_cast<int>(first && (!r.mask || r.mask[x]));
  }
  return n;
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
    const RowSearch search{s.map, y, static_cast<std::uint32_t>(s.origin + y) * static_cast<std::uint32_t>(width),
                           s.mask.empty() ? nullptr : s.mask.row(s.origin + y)};
    n += s.radius == 4 ? verify<4>(search, 4, columns, count, found + n)
                       : verify<0>(search, s.radius, columns, count, found + n);
  }
  return n;
}

}  // namespace fastretina::cpu
#endif
