// The sixteen pixels of a cell, shared by the CUDA twins of upsample and detect.
#pragma once

#include "core/types.h"
#include "upsample/upsample_math.h"

namespace fastretina::cuda {

// Cell (i, j) of the source, row by row: along x first, then along y, as the CPU twin does.
__device__ inline void expand_cell(const View<const float>& source, int i, int j, float (&out)[4][4]) {
  float across[5][4];  // rows i - 2 ... i + 2, expanded along x
#pragma unroll
  for (int r = 0; r < 5; ++r) {
    const int y = min(max(i + r - 2, 0), source.height - 1);
    const float* row = source.row(y);
    float c[5];
#pragma unroll
    for (int k = 0; k < 5; ++k) c[k] = row[min(max(j + k - 2, 0), source.width - 1)];
#pragma unroll
    for (int phase = 0; phase < 4; ++phase)
      across[r][phase] = cubic_sum(phase_weights(phase), c[2 + phase_tap(phase, 0)], c[2 + phase_tap(phase, 1)],
                                   c[2 + phase_tap(phase, 2)], c[2 + phase_tap(phase, 3)]);
  }
#pragma unroll
  for (int phase = 0; phase < 4; ++phase)
#pragma unroll
    for (int x = 0; x < 4; ++x)
      out[phase][x] =
          cubic_sum(phase_weights(phase), across[2 + phase_tap(phase, 0)][x], across[2 + phase_tap(phase, 1)][x],
                    across[2 + phase_tap(phase, 2)][x], across[2 + phase_tap(phase, 3)][x]);
}

}  // namespace fastretina::cuda
