// f32 matching at the speed of bf16: one bf16 pass leaves, for every row and column, a shortlist that provably holds
// the f32 winner and all its ties (screening_margin); only those pairs get their f32 chain. The same bits as the direct
// way.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"
#include "match/match_kernels.h"
#include "match/match_math.h"

namespace fastretina::cpu::matching {

void keep_above(Shortlist& list, float bar);

inline void add(Shortlist& list, int index, float score, float bar) {
  if (list.count == Shortlist::kCapacity) [[unlikely]]
    keep_above(list, bar);
  if (list.count >= Shortlist::kCapacity) [[unlikely]] {
    list.count = Shortlist::kCapacity + 1;
    return;
  }
  list.index[list.count] = index;
  list.score[list.count++] = score;
}

// What another thread found for the same column.
void merge(Shortlist& list, float& best, const Shortlist& other, float other_best, float margin);

// What Tiles::margin has to be; 0 where screening is impossible (no bf16 instruction, rows not finite) or does not pay.
float choose_margin(SimdLevel level, const Descriptors& fixed, const Descriptors& moving);

// Shortlists of a bf16 pass -> the f32 best of every row and column, and the f32 scores of the rows whose best is
// mutual. False, and nothing done, if too many lists overflowed.
bool settle(const Context& context, const Descriptors& fixed, const Descriptors& moving, float margin, const Best& rows,
            const Best& columns);

#ifdef FR_MATCH_X86
Bf16Spread bf16_spread(const float* rows, int n, int dims);
#endif

}  // namespace fastretina::cpu::matching
