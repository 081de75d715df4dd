#include "core/cuda.h"
#include "core/device.h"
#include "core/error.h"
#include "describe/describe.h"
#include "describe/describe_math.h"

namespace fastretina::cuda {
namespace {

using namespace describe_math;

constexpr int kThreads = 128;
static_assert(kLanes == kRowLanes);

// Half a warp a key point, a thread one of its sixteen partial sums.
__global__ void describe_kernel(DenseMap map, Keypoints keypoints, float* rows) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kLanes;
  const bool exists = i < min(*keypoints.count, keypoints.capacity);
  float* row = rows + static_cast<std::ptrdiff_t>(i) * map.dims;
  float sum = 0;
  if (exists) {
    const Cells x = cells_around(keypoints.xy[2 * i], map.width), y = cells_around(keypoints.xy[2 * i + 1], map.height);
    const Weights w = weights_of(x.fraction, y.fraction);
    const float* low = map.data + y.low * map.stride_y;
    const float* high = map.data + y.high * map.stride_y;
    for (int k = lane; k < map.dims; k += kLanes) {
      const std::ptrdiff_t left = k * map.stride_c + x.low * map.stride_x,
                           right = k * map.stride_c + x.high * map.stride_x;
      const float v = mix(w, low[left], low[right], high[left], high[right]);
      row[k] = v;
      sum = fmaf(v, v, sum);
    }
  }
  for (int half = kLanes / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, static_cast<unsigned>(half));
  const float factor = inverse_norm(__shfl_sync(kAllLanes, sum, static_cast<int>(threadIdx.x) & 16));
  if (exists)
    for (int k = lane; k < map.dims; k += kLanes) row[k] *= factor;
}

}  // namespace

void describe(const Context& context, Workspace&, const DenseMap& map, const Keypoints& keypoints, float* rows) {
  require(map.data != nullptr && map.dims > 0 && map.height > 0 && map.width > 0, "map", "an empty map",
          "(D, h, w) cells");
  launch(context, blocks_for(keypoints.capacity, kThreads / kLanes), kThreads, describe_kernel, map, keypoints, rows);
}

}  // namespace fastretina::cuda
