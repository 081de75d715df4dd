#include <algorithm>

#include "nms/nms.h"
#include "nms/nms_scan.h"
#include "nms/topk.h"

namespace fastretina::cpu {

void nms(const Context& context, Workspace& workspace, View<const float> confidence, View<const std::uint8_t> mask,
         const NmsOptions& options, const Keypoints& out) {
  check_options(options, confidence.width, confidence.height, mask, out);
  *out.count = 0;
  if (confidence.empty()) return;

  constexpr int kGrain = 64;  // rows a chunk
  Workspace::Frame frame(workspace);
  CandidateLists lists(workspace, confidence.height, kGrain, confidence.width, options.radius);
  const std::size_t slot_size = scan_scratch_bytes(confidence.width);
  auto* scratch = workspace.take<std::byte>(slot_size * static_cast<std::size_t>(context.threads()));

  context.parallel_for(confidence.height, kGrain, [&](int begin, int end, int slot) {
    const Scan s{confidence, 0, begin, end, mask, options.radius, options.threshold};
    lists.count(begin / kGrain) =
        scan(s, nullptr, scratch + slot_size * static_cast<std::size_t>(slot), lists.chunk(begin / kGrain));
  });

  *out.count = lists.best(workspace, options.max_keypoints, confidence.width, out);
}

}  // namespace fastretina::cpu
