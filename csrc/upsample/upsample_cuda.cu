#include <string>

#include "core/cuda.h"
#include "core/error.h"
#include "upsample/upsample.h"
#include "upsample/upsample_device.h"

namespace fastretina::cuda {
namespace {

// A thread a cell.
__global__ void upsample_kernel(View<const float> difference, View<float> confidence) {
  const int j = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int i = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (i >= difference.height || j >= difference.width) return;
  float cell[4][4];
  expand_cell(difference, i, j, cell);
  for (int y = 0; y < kStride; ++y)
    for (int x = 0; x < kStride; ++x) confidence.row(kStride * i + y)[kStride * j + x] = cell[y][x];
}

}  // namespace

void upsample(const Context& context, Workspace&, View<const float> difference, View<float> confidence) {
  require(confidence.width == kStride * difference.width && confidence.height == kStride * difference.height,
          "confidence", std::to_string(confidence.width) + " x " + std::to_string(confidence.height),
          "4 times the width and height");
  if (difference.empty()) return;
  launch(context, {blocks_for(difference.width, 32), blocks_for(difference.height, 8)}, {32, 8}, upsample_kernel,
         difference, confidence);
}

}  // namespace fastretina::cuda
