// The AVX-512 tile: 8 rows x 48 columns, 24 accumulators. Included by one file an instruction set, which defines
// FR_MATCH_TARGET; hence the unnamed namespace.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 warns about its own intrinsics (its bug 105593)
#endif
#include <immintrin.h>

#include <limits>

#include "match/match_kernels.h"
#include "match/match_screen.h"

namespace fastretina::cpu::matching {
namespace {

constexpr int kRows = 8, kVectors = 3, kLanes = 16, kWidth = kVectors * kLanes;

#define FR_MATCH_INLINE FR_MATCH_TARGET __attribute__((always_inline)) inline

FR_MATCH_INLINE __m512 max3(const __m512* c) { return _mm512_max_ps(_mm512_max_ps(c[0], c[1]), c[2]); }

// The 48 lanes of a row that equal `value`.
FR_MATCH_INLINE std::uint64_t equal_lanes(const __m512* c, float value) {
  const __m512 v = _mm512_set1_ps(value);
  return std::uint64_t{_mm512_cmpeq_ps_mask(c[0], v)} | std::uint64_t{_mm512_cmpeq_ps_mask(c[1], v)} << 16 |
         std::uint64_t{_mm512_cmpeq_ps_mask(c[2], v)} << 32;
}

// Columns come in ascending order, so only a greater score replaces an earlier one.
template <bool kSecond>
FR_MATCH_INLINE void update_row(const Best& best, int row, int column0, const __m512* c) {
  const __m512 largest = max3(c);
  const float bar = kSecond ? best.second[row] : best.score[row];
  if (_mm512_cmp_ps_mask(largest, _mm512_set1_ps(bar), _CMP_GT_OQ) == 0) [[likely]]
    return;
  const float top = _mm512_reduce_max_ps(largest);
  const std::uint64_t where = equal_lanes(c, top);
  const float before = best.score[row];
  if constexpr (kSecond) {
    const std::uint64_t rest = ~(where & (~where + 1));  // all lanes but the first best
    const __m512 low = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 others[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      others[v] = _mm512_mask_mov_ps(low, static_cast<__mmask16>(rest >> (16 * v)), c[v]);
    const float next = _mm512_reduce_max_ps(max3(others));
    const float loser = top > before ? before : top;
    const float kept = best.second[row] > next ? best.second[row] : next;
    best.second[row] = loser > kept ? loser : kept;
  }
  if (top > before) {
    best.score[row] = top;
    best.index[row] = column0 + __builtin_ctzll(where);
  }
}

// Rows come in ascending order too. A column improves rarely: look for the row only then.
FR_MATCH_INLINE void update_columns(const Best& best, int row0, int column, int v, const __m512 (*c)[kVectors]) {
  __m512 top = c[0][v];
#pragma GCC unroll 8
  for (int r = 1; r < kRows; ++r) top = _mm512_max_ps(top, c[r][v]);
  const __mmask16 up = _mm512_cmp_ps_mask(top, _mm512_loadu_ps(best.score + column), _CMP_GT_OQ);
  if (up == 0) [[likely]]
    return;
  __m512i index = _mm512_set1_epi32(row0 + kRows - 1);
#pragma GCC unroll 8
  for (int r = kRows - 2; r >= 0; --r)
    index = _mm512_mask_mov_epi32(index, _mm512_cmpeq_ps_mask(c[r][v], top), _mm512_set1_epi32(row0 + r));
  _mm512_mask_storeu_ps(best.score + column, up, top);
  _mm512_mask_storeu_epi32(best.index + column, up, index);
}

FR_MATCH_INLINE void update_columns_second(const Best& best, int row0, int column, int v, const __m512 (*c)[kVectors]) {
  __m512 top = _mm512_loadu_ps(best.score + column), second = _mm512_loadu_ps(best.second + column);
  __m512i index = _mm512_loadu_si512(best.index + column);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    second = _mm512_max_ps(second, _mm512_min_ps(top, c[r][v]));
    index = _mm512_mask_mov_epi32(index, _mm512_cmp_ps_mask(c[r][v], top, _CMP_GT_OQ), _mm512_set1_epi32(row0 + r));
    top = _mm512_max_ps(top, c[r][v]);
  }
  _mm512_storeu_ps(best.score + column, top);
  _mm512_storeu_ps(best.second + column, second);
  _mm512_storeu_si512(best.index + column, index);
}

// Screening keeps everything above best - margin. A bar above the best before clears the list, an overflown one too.
FR_MATCH_TARGET inline void shortlist_row(const Tiles& t, int row, int column0, const __m512* c) {
  const __m512 largest = max3(c);
  const float before = t.row_best.score[row];
  if (_mm512_cmp_ps_mask(largest, _mm512_set1_ps(before - t.margin), _CMP_GT_OQ) == 0) [[likely]]
    return;
  const float top = _mm512_reduce_max_ps(largest), best = top > before ? top : before, bar = best - t.margin;
  Shortlist& list = t.row_best.close[row];
  if (bar > before) list.count = 0;
  t.row_best.score[row] = best;
  for (int v = 0; v < kVectors; ++v)
    for (unsigned left = _mm512_cmp_ps_mask(c[v], _mm512_set1_ps(bar), _CMP_GT_OQ); left != 0; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      add(list, column0 + v * kLanes + lane, c[v][lane], bar);
    }
}

FR_MATCH_TARGET inline void shortlist_columns(const Tiles& t, int row0, int column, int v,
                                              const __m512 (*c)[kVectors]) {
  __m512 top = c[0][v];
  for (int r = 1; r < kRows; ++r) top = _mm512_max_ps(top, c[r][v]);
  const __m512 before = _mm512_loadu_ps(t.column_best.score + column), margin = _mm512_set1_ps(t.margin);
  if (_mm512_cmp_ps_mask(top, _mm512_sub_ps(before, margin), _CMP_GT_OQ) == 0) [[likely]]
    return;
  const __m512 best = _mm512_max_ps(top, before), bar = _mm512_sub_ps(best, margin);
  _mm512_storeu_ps(t.column_best.score + column, best);
  Shortlist* lists = t.column_best.close + column;
  for (unsigned left = _mm512_cmp_ps_mask(bar, before, _CMP_GT_OQ); left != 0; left &= left - 1)
    lists[__builtin_ctz(left)].count = 0;
  for (int r = 0; r < kRows; ++r)
    for (unsigned left = _mm512_cmp_ps_mask(c[r][v], bar, _CMP_GT_OQ); left != 0; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      add(lists[lane], row0 + r, c[r][v][lane], bar[lane]);
    }
}

// What lies outside the matrix must never be best.
FR_MATCH_INLINE void blank_outside(int rows, int columns, __m512 (*c)[kVectors]) {
  const __m512 low = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const std::uint64_t inside = columns >= kWidth ? ~std::uint64_t{0} : (std::uint64_t{1} << columns) - 1;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      c[r][v] = _mm512_mask_mov_ps(low, static_cast<__mmask16>(r < rows ? inside >> (16 * v) : 0), c[r][v]);
}

// The sums have names, because GCC keeps an array of them in memory.
#define FR_MATCH_EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define FR_MATCH_DECLARE(r) \
  const Word* a##r = a[r];  \
  auto sum##r##_0 = start0, sum##r##_1 = start1, sum##r##_2 = start2;
#define FR_MATCH_STEP(r)                      \
  {                                           \
    const auto x = Op::broadcast(a##r + k);   \
    sum##r##_0 = Op::step(sum##r##_0, x, b0); \
    sum##r##_1 = Op::step(sum##r##_1, x, b1); \
    sum##r##_2 = Op::step(sum##r##_2, x, b2); \
  }
#define FR_MATCH_SCORE(r) {Op::score(sum##r##_0), Op::score(sum##r##_1), Op::score(sum##r##_2)},

enum class Keep { best, second, close };

template <class Op, Keep kKeep, bool kEdge>
FR_MATCH_INLINE void tile(const Tiles& t, const typename Op::Word* const* a, int row0, int panel) {
  using Word = typename Op::Word;
  const int column0 = panel * kWidth;
  const Word* b = static_cast<const Word*>(t.panels) + panel * t.steps * kWidth;
  const auto start0 = Op::start(t.start, column0), start1 = Op::start(t.start, column0 + kLanes),
             start2 = Op::start(t.start, column0 + 2 * kLanes);
  FR_MATCH_EACH_ROW(FR_MATCH_DECLARE)
  for (std::ptrdiff_t k = 0; k < t.steps; ++k, b += kWidth) {
    const auto b0 = Op::load(b), b1 = Op::load(b + kLanes), b2 = Op::load(b + 2 * kLanes);
    FR_MATCH_EACH_ROW(FR_MATCH_STEP)
  }
  __m512 c[kRows][kVectors] = {FR_MATCH_EACH_ROW(FR_MATCH_SCORE)};
  if constexpr (kEdge) blank_outside(t.row_end - row0, t.columns - column0, c);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
    if (!kEdge || row0 + r < t.row_end) {
      if constexpr (kKeep == Keep::close)
        shortlist_row(t, row0 + r, column0, c[r]);
      else
        update_row<kKeep == Keep::second>(t.row_best, row0 + r, column0, c[r]);
    }
#pragma GCC unroll 3
  for (int v = 0; v < kVectors; ++v)
    if constexpr (kKeep == Keep::close)
      shortlist_columns(t, row0, column0 + v * kLanes, v, c);
    else if constexpr (kKeep == Keep::second)
      update_columns_second(t.column_best, row0, column0 + v * kLanes, v, c);
    else
      update_columns(t.column_best, row0, column0 + v * kLanes, v, c);
}

template <class Op, Keep kKeep>
FR_MATCH_TARGET void run_tiles(const Tiles& t) {
  using Word = typename Op::Word;
  for (int row0 = t.row_begin; row0 < t.row_end; row0 += kRows) {
    const Word* a[kRows];
    for (int r = 0; r < kRows; ++r) {  // rows past the end repeat the last one
      const int row = row0 + r < t.row_end ? row0 + r : t.row_end - 1;
      a[r] = static_cast<const Word*>(t.rows) + row * t.steps;
    }
    for (int panel = t.panel_begin; panel < t.panel_end; ++panel) {
      if (row0 + kRows > t.row_end || (panel + 1) * kWidth > t.columns)
        tile<Op, kKeep, true>(t, a, row0, panel);
      else
        tile<Op, kKeep, false>(t, a, row0, panel);
    }
  }
}

template <class Op>
FR_MATCH_TARGET void run(const Tiles& t) {
  if (t.row_best.second != nullptr)
    run_tiles<Op, Keep::second>(t);
  else
    run_tiles<Op, Keep::best>(t);
}

// 16 rows of 16 words, turned.
FR_MATCH_INLINE void transpose(__m512i* x) {
  __m512i y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // pairs of words
    y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // quads: x[4 i + c] holds words c, c + 4, c + 8, c + 12 of rows 4 i ... 4 i + 3
    x[4 * i] = _mm512_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
    x[4 * i + 1] = _mm512_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
    x[4 * i + 2] = _mm512_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
    x[4 * i + 3] = _mm512_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // a 4 x 4 transpose of 128-bit quarters for each c
    const __m512i p = _mm512_shuffle_i32x4(x[c], x[4 + c], 0x88), q = _mm512_shuffle_i32x4(x[c], x[4 + c], 0xDD);
    const __m512i s = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0x88),
                  u = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0xDD);
    y[c] = _mm512_shuffle_i32x4(p, s, 0x88);
    y[8 + c] = _mm512_shuffle_i32x4(p, s, 0xDD);
    y[4 + c] = _mm512_shuffle_i32x4(q, u, 0x88);
    y[12 + c] = _mm512_shuffle_i32x4(q, u, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = y[i];
}

FR_MATCH_TARGET void pack(const void* words, std::ptrdiff_t steps, int n, int panel_begin, int panel_end,
                          void* panels) {
  for (int row0 = panel_begin * kWidth; row0 < panel_end * kWidth; row0 += kLanes) {
    const int panel = row0 / kWidth;
    std::int32_t* out = static_cast<std::int32_t*>(panels) + panel * steps * kWidth + (row0 - panel * kWidth);
    for (std::ptrdiff_t k = 0; k < steps; k += kLanes) {
      const int width = static_cast<int>(steps - k < kLanes ? steps - k : kLanes);
      const auto inside = static_cast<__mmask16>((1u << width) - 1);
      __m512i x[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r)
        x[r] = _mm512_maskz_loadu_epi32(row0 + r < n ? inside : 0,
                                        static_cast<const std::int32_t*>(words) + (row0 + r) * steps + k);
      transpose(x);
      if (width == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) _mm512_storeu_si512(out + (k + i) * kWidth, x[i]);
      } else {
        for (int i = 0; i < width; ++i) _mm512_storeu_si512(out + (k + i) * kWidth, x[i]);
      }
    }
  }
}

}  // namespace
}  // namespace fastretina::cpu::matching
