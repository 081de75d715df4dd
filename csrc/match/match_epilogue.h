// What the scalar and the AVX2 kernel share: packing, and what a finished tile in memory leaves behind.
#pragma once

#include <algorithm>

#include "match/match_kernels.h"

namespace fastretina::cpu::matching {

template <int Width>
void pack_panels(const void* words, std::ptrdiff_t steps, int n, int panel_begin, int panel_end, void* panels) {
  for (int panel = panel_begin; panel < panel_end; ++panel) {
    float* out = static_cast<float*>(panels) + panel * steps * Width;
    for (int v = 0; v < Width; ++v) {
      const int row = panel * Width + v;
      const float* from = static_cast<const float*>(words) + std::min(row, n - 1) * steps;
      for (std::ptrdiff_t k = 0; k < steps; ++k) out[k * Width + v] = row < n ? from[k] : 0.0f;
    }
  }
}

// Candidates come with ascending indices, so only a greater score replaces an earlier one.
inline void offer(const Best& best, int at, int candidate, float score) {
  if (best.second != nullptr) best.second[at] = std::max(best.second[at], std::min(best.score[at], score));
  if (score > best.score[at]) {
    best.score[at] = score;
    best.index[at] = candidate;
  }
}

// `score` holds `rows` rows of Width.
template <int Width>
void update_best(const Tiles& t, int row0, int rows, int panel, const float* score) {
  const int column0 = panel * Width, columns = std::min(Width, t.columns - column0);
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < columns; ++v) {
      offer(t.row_best, row0 + r, column0 + v, score[r * Width + v]);
      offer(t.column_best, column0 + v, row0 + r, score[r * Width + v]);
    }
}

}  // namespace fastretina::cpu::matching
