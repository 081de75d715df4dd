#include <algorithm>
#include <bit>
#include <cstring>

#include "core/target.h"
#include "nms/nms_scan.h"

#if FR_X86
#include <immintrin.h>

namespace fastretina::cpu {
namespace {

inline __mmask16 low_lanes(int n) { return static_cast<__mmask16>(n >= 16 ? 0xFFFFu : (1u << n) - 1); }

// first + 0, 1, ... 15 where `keep` has a bit.
FR_AVX512 FR_INLINE __m512i indices(int first, __mmask16 keep) {
  const __m512i lane_ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_maskz_compress_epi32(keep, _mm512_add_epi32(lane_ids, _mm512_set1_epi32(first)));
}

// The second sieve for a word that may lie at the map's edge: a neighbour that is not there does not compete.
FR_AVX512 __mmask16 compare_at_edge(const float* row, int width, int x, __mmask16 flags) {
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

// The second sieve: which flagged pixels also come before their horizontal neighbours.
FR_AVX512 int list_columns(const float* row, int width, const std::uint16_t* flags, const int* words, int count,
                           int* columns) {
  const int last_word = flag_words(width) - 1;
  int* next = columns;
  for (int i = 0; i < count; ++i) {
    const int word = words[i], x = 16 * word;
    __mmask16 keep = flags[word];
    if (word > 0 && word < last_word) {
      const float* p = row + x;
      const __m512 c = _mm512_loadu_ps(p);
      keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_loadu_ps(p - 1), _CMP_GT_OQ);
      keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_loadu_ps(p + 1), _CMP_GE_OQ);
    } else {
      keep = compare_at_edge(row, width, x, keep);
    }
    // Of two neighbours at most one passes: half a vector holds them all.
    _mm512_mask_storeu_epi32(next, 0x00FF, indices(x, keep));
    next += std::popcount(static_cast<unsigned>(keep));
  }
  return static_cast<int>(next - columns);
}

// The third sieve for up to sixteen columns of the window, beginning at x. The rows above are all earlier and those
// below all later in row-major order: two running maxima and the row itself decide. `before`: lanes left of the pixel.
FR_AVX512 FR_INLINE unsigned lost_lanes(const float* const* row, int above, int below, std::ptrdiff_t x,
                                        __mmask16 lanes, __mmask16 before, __m512 c) {
  __m512 earlier = _mm512_set1_ps(-__builtin_inff()), later = earlier;
  for (int v = -above; v < 0; ++v)
    earlier = _mm512_mask_max_ps(earlier, lanes, earlier, _mm512_maskz_loadu_ps(lanes, row[v] + x));
  const __m512 here = _mm512_maskz_loadu_ps(lanes, row[0] + x);
  later = _mm512_mask_mov_ps(later, lanes, here);
  for (int v = 1; v <= below; ++v)
    later = _mm512_mask_max_ps(later, lanes, later, _mm512_maskz_loadu_ps(lanes, row[v] + x));
  return _mm512_cmp_ps_mask(earlier, c, _CMP_GE_OQ) | _mm512_cmp_ps_mask(later, c, _CMP_GT_OQ) |
         _mm512_mask_cmp_ps_mask(before, here, c, _CMP_GE_OQ);
}

// Keeps the columns that are first in their window. found[n] is always written, and kept if n moves on: no branch.
template <int kRadius>  // 0: any
FR_AVX512 int verify(const Scan& scan, const Rows& rows, int y, const int* columns, int count, Candidate* found) {
  const int radius = kRadius > 0 ? kRadius : scan.radius, width = rows.width;
  const bool rows_inside = radius <= 7 && y >= rows.top + radius && y + radius < rows.bottom;
  const __mmask16 lanes = low_lanes(2 * radius + 1), before = low_lanes(radius);
  const float* const* row = rows.pointers + (y - rows.top);
  const float* around[2 * kRadius + 1];  // of a known radius, for the compiler to unroll
  if (kRadius > 0 && rows_inside)
    for (int v = -kRadius; v <= kRadius; ++v) around[v + kRadius] = row[v] - radius;
  const std::uint32_t base = static_cast<std::uint32_t>(y) * static_cast<std::uint32_t>(width);
  const std::uint8_t* mask = scan.mask.empty() ? nullptr : scan.mask.row(y);
  Candidate* next = found;
  for (int i = 0; i < count; ++i) {
    const int x = columns[i];
    const float score = row[0][x];
    bool first;
    if (kRadius > 0 && rows_inside && x >= radius && x + radius < width)  // one vector holds a row of the window
      first = lost_lanes(around + kRadius, radius, radius, x, lanes, before, _mm512_set1_ps(score)) == 0;
    else
      first = first_in_window_avx512(rows, radius, x, y);
    *next = {score, base + static_cast<std::uint32_t>(x)};
    const bool allowed = !mask || mask[x] != 0;
    next += static_cast<int>(first) & static_cast<int>(allowed);
  }
  return static_cast<int>(next - found);
}

}  // namespace

// Without a branch that depends on the flags. Writes whole vectors.
FR_AVX512 int list_words_avx512(const std::uint16_t* flags, int stride, int* words) {
  int n = 0;
  for (int w = 0; w < stride; w += 16) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(flags + w));
    const __mmask16 keep = _mm256_test_epi16_mask(some, some);
    _mm512_storeu_si512(words + n, indices(w, keep));
    n += std::popcount(static_cast<unsigned>(keep));
  }
  return n;
}

FR_AVX512 bool first_in_window_avx512(const Rows& rows, int radius, int x, int y) {
  const int x0 = std::max(x - radius, 0), x1 = std::min(x + radius, rows.width - 1);
  const int y0 = std::max(y - radius, rows.top), y1 = std::min(y + radius, rows.bottom - 1);
  const __m512 c = _mm512_set1_ps(rows[y][x]);
  unsigned lost = 0;
  for (int u = x0; u <= x1; u += 16) {
    const __mmask16 lanes = low_lanes(x1 - u + 1), before = u < x ? low_lanes(x - u) : __mmask16{0};
    lost |= lost_lanes(rows.pointers + (y - rows.top), y - y0, y1 - y, u, lanes, before, c);
  }
  return lost == 0;
}

FR_AVX512 void flag_row_avx512(const float* row, const float* above, const float* below, int width, float threshold,
                               std::uint16_t* flags) {
  const __m512 limit = _mm512_set1_ps(threshold);
  for (int x = 0; x < width; x += 16) {
    const __mmask16 lanes = low_lanes(width - x);
    const __m512 c = _mm512_maskz_loadu_ps(lanes, row + x);
    __mmask16 keep = _mm512_mask_cmp_ps_mask(lanes, c, limit, _CMP_GT_OQ);
    if (above) keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_maskz_loadu_ps(lanes, above + x), _CMP_GT_OQ);
    if (below) keep = _mm512_mask_cmp_ps_mask(keep, c, _mm512_maskz_loadu_ps(lanes, below + x), _CMP_GE_OQ);
    flags[x / 16] = keep;
  }
}

FR_AVX512 int scan_row_avx512(const Scan& scan, const Rows& rows, int y, const std::uint16_t* flags, void* scratch,
                              Candidate* found) {
  const int stride = flag_stride(rows.width);
  auto* columns = static_cast<int*>(scratch);
  auto* words = columns + 16 * stride;
  auto* own_flags = reinterpret_cast<std::uint16_t*>(words + stride + 16);
  if (!flags) {
    flag_row_avx512(rows[y], y > rows.top ? rows[y - 1] : nullptr, y + 1 < rows.bottom ? rows[y + 1] : nullptr,
                    rows.width, scan.threshold, own_flags);
    std::fill(own_flags + flag_words(rows.width), own_flags + stride, std::uint16_t{0});
    flags = own_flags;
  }
  int count = list_words_avx512(flags, stride, words);
  count = list_columns(rows[y], rows.width, flags, words, count, columns);
  return scan.radius == 4 ? verify<4>(scan, rows, y, columns, count, found)
                          : verify<0>(scan, rows, y, columns, count, found);
}

}  // namespace fastretina::cpu
#endif
