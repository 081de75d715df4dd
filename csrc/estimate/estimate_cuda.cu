// The room `estimate` on the device: a block an estimate. The loops are search.h and ladder.h.
#include "core/cuda.h"
#include "estimate/block_run_device.h"
#include "estimate/ladder.h"

namespace fastretina::cuda {
namespace {

using namespace estimating;

__global__ void __launch_bounds__(kRunThreads) estimate_kernel(BlockRun run, PointPairs pairs, EstimateOptions options,
                                                               Rounds rounds, Estimate* out, std::uint8_t* inlier) {
  const Estimate found = estimating::estimate(run, pairs, options, rounds, inlier);
  if (threadIdx.x == 0) *out = found;
}

__global__ void __launch_bounds__(kRunThreads)
    upgrade_kernel(BlockRun run, PointPairs pairs, const Transform* start, Frames frames, UpgradeOptions options,
                   Estimate* out, std::uint8_t* inlier) {
  const Estimate found = estimating::upgrade(run, pairs, *start, frames, options, inlier);
  if (threadIdx.x == 0) *out = found;
}

void clear(const Context& context, std::uint8_t* inlier, int capacity) {
  if (inlier && capacity > 0) fill(context, inlier, 0, static_cast<std::size_t>(capacity));
}

}  // namespace

void estimate(const Context& context, Workspace& workspace, const PointPairs& pairs, const EstimateOptions& options,
              Estimate* out, std::uint8_t* inlier) {
  const Workspace::Frame frame(workspace);
  clear(context, inlier, pairs.capacity);
  const BlockRun run = take_run(workspace, pairs.capacity);
  const Rounds rounds{workspace.take<int>(kRounds), workspace.take<int>(kRounds)};
  launch(context, 1, kRunThreads, estimate_kernel, run, pairs, options, rounds, out, inlier);
}

void upgrade(const Context& context, Workspace& workspace, const PointPairs& pairs, const Transform& start, Size fixed,
             Size moving, const UpgradeOptions& options, Estimate* out, std::uint8_t* inlier) {
  const Workspace::Frame frame(workspace);
  clear(context, inlier, pairs.capacity);
  launch(context, 1, kRunThreads, upgrade_kernel, take_run(workspace, pairs.capacity), pairs, &start,
         Frames{fixed, moving}, options, out, inlier);
}

}  // namespace fastretina::cuda
