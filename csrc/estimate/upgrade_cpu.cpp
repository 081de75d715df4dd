// The room's second function, `upgrade`, on the CPU. The work is ladder.h.
#include <algorithm>

#include "estimate/cpu_run.h"
#include "estimate/ladder.h"

namespace fastretina::cpu {

void upgrade(const Context& context, Workspace& workspace, const PointPairs& pairs, const Transform& start, Size fixed,
             Size moving, const UpgradeOptions& options, Estimate* out, std::uint8_t* inlier) {
  Workspace::Frame frame(workspace);
  if (inlier) std::fill_n(inlier, *pairs.count, std::uint8_t{0});
  CpuRun run{context, estimating::kernels(), estimating::take_problem(workspace, *pairs.count)};
  *out = estimating::upgrade(run, pairs, start, {fixed, moving}, options, inlier);
}

}  // namespace fastretina::cpu
