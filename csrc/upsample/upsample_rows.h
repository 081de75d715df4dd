// Row kernels of the x4 upsampling, shared by upsample (which stores every row) and detect (which keeps a band).
#pragma once

#include "core/types.h"

namespace fastretina::cpu {

// expand writes whole vectors: an expanded row needs this many elements.
constexpr int expanded_stride(int width) { return (4 * width + 15) / 16 * 16; }

// A source row with both edges repeated; `cells` may be read at [-2, width + 14).
constexpr int kPadBefore = 16;  // keeps `cells` aligned
constexpr int padded_size(int width) { return kPadBefore + width + 14; }
float* pad_row(const float* source, int width, float* buffer);  // -> cells

struct RowKernels {
  // cells (padded, width) -> 4 width elements along x; elements up to expanded_stride(width) are overwritten.
  void (*expand)(const float* cells, int width, float* out);
  // Four expanded rows -> one row of the output. taps[k] is the row of phase_tap(phase, k), n elements.
  void (*blend)(const float* const taps[4], int phase, int n, float* out);
};
RowKernels row_kernels();  // for simd_level()

// Expands source rows [first, last) of `source` to out + (row - first) * stride. `scratch`: padded_size(width).
void expand_rows(const RowKernels& kernels, View<const float> source, int first, int last, float* scratch, float* out,
                 int stride);

void expand_avx512(const float* cells, int width, float* out);
void blend_avx512(const float* const taps[4], int phase, int n, float* out);

}  // namespace fastretina::cpu
