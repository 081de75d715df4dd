#include <algorithm>
#include <cstddef>

#include "core/error.h"
#include "upsample/upsample.h"
#include "upsample/upsample_math.h"
#include "upsample/upsample_rows.h"

namespace fastretina::cpu {

void upsample(const Context& context, Workspace& workspace, View<const float> difference, View<float> confidence) {
  require(confidence.width == kStride * difference.width && confidence.height == kStride * difference.height,
          "confidence", std::to_string(confidence.width) + " x " + std::to_string(confidence.height),
          "4 times the width and height");
  if (difference.empty()) return;

  constexpr int kGrain = 8;  // source rows a chunk: the expanded rows of a chunk stay in the first caches
  const int h = difference.height, stride = expanded_stride(difference.width);
  const std::size_t slot_size = static_cast<std::size_t>(padded_size(difference.width) + (kGrain + 4) * stride);
  Workspace::Frame frame(workspace);
  float* scratch = workspace.take<float>(slot_size * static_cast<std::size_t>(context.threads()));
  const RowKernels kernels = row_kernels();

  context.parallel_for(h, kGrain, [&](int begin, int end, int slot) {
    float* expanded = scratch + slot_size * static_cast<std::size_t>(slot);
    float* pad = expanded + (kGrain + 4) * stride;
    const int first = std::max(begin - 2, 0), last = std::min(end + 2, h);
    expand_rows(kernels, difference, first, last, pad, expanded, stride);
    for (int i = begin; i < end; ++i)
      for (int phase = 0; phase < kStride; ++phase) {
        const float* taps[4];
        for (int k = 0; k < 4; ++k)
          taps[k] = expanded + (std::clamp(i + phase_tap(phase, k), 0, h - 1) - first) * stride;
        kernels.blend(taps, phase, confidence.width, confidence.row(kStride * i + phase));
      }
  });
}

}  // namespace fastretina::cpu
