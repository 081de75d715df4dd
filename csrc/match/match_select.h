// The end of both searches: candidates found in fixed order leave in the order of better().
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/types.h"
#include "core/workspace.h"
#include "match/match_math.h"

namespace fastretina::cpu::matching {

inline Matches take_matches(Workspace& workspace, int capacity) {
  const auto size = static_cast<std::size_t>(capacity);
  return {workspace.take<int>(size), workspace.take<int>(size), workspace.take<float>(size), nullptr, capacity};
}

// `found` holds `count` matches with ascending fixed index. A stable radix sort by score keeps that order among ties.
inline void write_sorted(Workspace& workspace, const Matches& found, int count, const Matches& out) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  struct Entry {
    std::uint32_t key;
    int at;
  };
  const Workspace::Frame frame(workspace);
  Entry* from = workspace.take<Entry>(static_cast<std::size_t>(count));
  Entry* to = workspace.take<Entry>(static_cast<std::size_t>(count));
  int* first = workspace.take<int>(kBuckets);
  for (int i = 0; i < count; ++i) from[i] = {descending_key(found.score[i]), i};
  for (int shift = 0; shift < 32; shift += kBits) {
    const auto bucket = [&](const Entry& e) { return (e.key >> shift) & (kBuckets - 1); };
    std::fill_n(first, kBuckets, 0);
    for (int i = 0; i < count; ++i) ++first[bucket(from[i])];
    for (int b = 0, sum = 0; b < kBuckets; ++b) {
      const int size = first[b];
      first[b] = sum;
      sum += size;
    }
    for (int i = 0; i < count; ++i) to[first[bucket(from[i])]++] = from[i];
    std::swap(from, to);
  }
  for (int i = 0; i < count; ++i) {
    out.fixed[i] = found.fixed[from[i].at];
    out.moving[i] = found.moving[from[i].at];
    out.score[i] = found.score[from[i].at];
  }
  *out.count = count;
}

}  // namespace fastretina::cpu::matching
