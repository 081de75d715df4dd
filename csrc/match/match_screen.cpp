#include "match/match_screen.h"

#include <algorithm>

#include "core/order.h"

namespace fastretina::cpu::matching {
namespace {

// Below either, encoding twice and settling cost more than half of the products.
constexpr int kLeastRows = 256, kLeastDims = 64;
// A row without a shortlist costs some 16 times what the tiles would take: with more than 1 of 64 the tiles are faster.
constexpr int kMostOverflown = 64;
constexpr int kChunk = 64, kPairs = kChunk * Shortlist::kCapacity;

bool overflown(const Shortlist& list) { return list.count > Shortlist::kCapacity; }

struct Pairs {
  int asking[kPairs], answering[kPairs];
  float score[kPairs];
  int count = 0;

  void push(int i, int j) {
    asking[count] = i;
    answering[count++] = j;
  }
  void decide(SimdLevel level, const float* asking_rows, const float* answering_rows, int dims, const Best& best) {
    dot_pairs(level, asking_rows, answering_rows, dims, asking, answering, count, score);
    for (int p = 0; p < count; ++p) {
      const int i = asking[p], j = answering[p];
      if (best.index[i] >= 0 && !better(score[p], j, best.score[i], best.index[i])) continue;
      best.score[i] = score[p];
      best.index[i] = j;
    }
    count = 0;
  }
};

// Every asking row gets its f32 best among the shortlisted answering rows, or among all if its list overflowed. Who is
// alone on a list is the best; its score is not needed yet.
void settle_side(const Context& context, const Descriptors& asking, const Descriptors& answering, float margin,
                 const Best& best) {
  const SimdLevel level = simd_level();
  context.parallel_for(*asking.count, kChunk, [&](int begin, int end, int) {
    Pairs pairs;
    const auto decide = [&] { pairs.decide(level, asking.rows, answering.rows, asking.dims, best); };
    for (int i = begin; i < end; ++i) {
      Shortlist& list = best.close[i];
      if (overflown(list)) continue;
      keep_above(list, best.score[i] - margin);
      if (list.count == 1) best.index[i] = list.index[0];
      for (int c = 0; c < list.count && list.count > 1; ++c) pairs.push(i, list.index[c]);
    }
    decide();
    for (int i = begin; i < end; ++i)
      for (int j = 0; overflown(best.close[i]) && j < *answering.count; ++j) {
        pairs.push(i, j);
        if (pairs.count == kPairs || j + 1 == *answering.count) decide();
      }
  });
}

}  // namespace

void keep_above(Shortlist& list, float bar) {
  int kept = 0;
  for (int c = 0; c < list.count; ++c) {
    if (!(list.score[c] > bar)) continue;
    list.index[kept] = list.index[c];
    list.score[kept++] = list.score[c];
  }
  list.count = kept;
}

void merge(Shortlist& list, float& best, const Shortlist& other, float other_best, float margin) {
  const float top = std::max(best, other_best), bar = top - margin;
  if (!(best > bar)) list.count = 0;
  best = top;
  if (!(other_best > bar)) return;
  if (overflown(other)) list.count = other.count;
  for (int c = 0; c < other.count && !overflown(list); ++c)
    if (other.score[c] > bar) add(list, other.index[c], other.score[c], bar);
}

float choose_margin(SimdLevel level, const Descriptors& fixed, const Descriptors& moving) {
#ifdef FR_MATCH_X86
  const int n = *fixed.count, m = *moving.count, dims = fixed.dims;
  if (level < SimdLevel::avx512bf16 || std::min(n, m) < kLeastRows || dims < kLeastDims) return 0.0f;
  const float margin = screening_margin(dims, bf16_spread(fixed.rows, n, dims), bf16_spread(moving.rows, m, dims));
  return margin < 1.0f ? margin : 0.0f;  // not for NaN
#else
  (void)level, (void)fixed, (void)moving;
  return 0.0f;
#endif
}

bool settle(const Context& context, const Descriptors& fixed, const Descriptors& moving, float margin, const Best& rows,
            const Best& columns) {
  const int n = *fixed.count, m = *moving.count;
  const auto without =
      std::count_if(rows.close, rows.close + n, overflown) + std::count_if(columns.close, columns.close + m, overflown);
  if (without > (n + m) / kMostOverflown) return false;
  settle_side(context, fixed, moving, margin, rows);
  settle_side(context, moving, fixed, margin, columns);
  context.parallel_for(n, kChunk, [&](int begin, int end, int) {  // the scores left out, of mutual pairs only
    Pairs pairs;
    for (int i = begin; i < end; ++i) {
      const int j = rows.index[i];
      if (rows.close[i].count != 1 || columns.index[j] != i) continue;
      pairs.push(i, j);
      rows.index[i] = -1;
    }
    pairs.decide(simd_level(), fixed.rows, moving.rows, fixed.dims, rows);
  });
  return true;
}

}  // namespace fastretina::cpu::matching
