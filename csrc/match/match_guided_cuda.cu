// Guided matching on the device: a warp goes over all fixed points for one moving point. A few thousand points a side
// are a few million distances: no grid is needed.
#include <algorithm>

#include "core/device.h"
#include "core/error.h"
#include "core/transform.h"
#include "match/match_device.h"

namespace fastretina::cuda {
namespace {

constexpr int kThreads = 256;

struct Side {
  Descriptors set;
  const float* xy;
};

__global__ void __launch_bounds__(kThreads)
    near_kernel(Side fixed, Side moving, const Transform* T_fixed_moving, double radius, Bests bests) {
  const int lane = static_cast<int>(threadIdx.x) % 32, j = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) / 32;
  const int n = *fixed.set.count, dims = fixed.set.dims;
  if (j >= *moving.set.count) return;
  const Point at =
      apply(*T_fixed_moving, {static_cast<double>(moving.xy[2 * j]), static_cast<double>(moving.xy[2 * j + 1])});
  const float* own = moving.set.rows + std::int64_t{j} * dims;
  Key best = 0;
  for (int i = lane; i < n; i += 32) {
    if (!is_near(at.x, at.y, static_cast<double>(fixed.xy[2 * i]), static_cast<double>(fixed.xy[2 * i + 1]), radius))
      continue;
    const float* other = fixed.set.rows + std::int64_t{i} * dims;
    float sum = 0;
    for (int k = 0; k < dims; ++k) sum = fmaf(other[k], own[k], sum);
    const Key for_row = key_of(sum, j);
    if (for_row == 0) continue;
    atomicMax(&bests.rows[i], for_row);
    best = max(best, key_of(sum, i));
  }
  for (int mask = 16; mask > 0; mask /= 2) best = max(best, __shfl_xor_sync(kAllLanes, best, mask));
  if (lane == 0) bests.columns[j] = best;
}

}  // namespace

void match_guided(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
                  const Keypoints& fixed_points, const Keypoints& moving_points, const Transform& T_fixed_moving,
                  const GuidedMatchOptions& options, const Matches& out) {
  require(out.capacity >= std::min(fixed.capacity, moving.capacity), "out", "too small a capacity",
          "at least the smaller set's capacity");
  if (fixed.capacity <= 0 || moving.capacity <= 0) return fill(context, out.count, 0, sizeof(int));
  const Workspace::Frame frame(workspace);
  const auto n = static_cast<std::size_t>(fixed.capacity), m = static_cast<std::size_t>(moving.capacity);
  Finish finish;
  finish.fixed_count = fixed.count, finish.moving_count = moving.count;
  finish.first.rows = workspace.take<Key>(n + m);
  finish.first.columns = finish.first.rows + n;
  finish.min_similarity = options.min_similarity;
  fill(context, finish.first.rows, 0, (n + m) * sizeof(Key));
  launch(context, blocks_for(moving.capacity, kThreads / 32), kThreads, near_kernel, Side{fixed, fixed_points.xy},
         Side{moving, moving_points.xy}, &T_fixed_moving, static_cast<double>(options.radius_px), finish.first);
  write_mutual(context, workspace, finish, fixed.capacity, out);
}

}  // namespace fastretina::cuda
