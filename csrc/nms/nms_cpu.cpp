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
  auto** pointers = workspace.take<const float*>(static_cast<std::size_t>(confidence.height));
  for (int y = 0; y < confidence.height; ++y) pointers[y] = confidence.row(y);
  const Rows rows{pointers, 0, confidence.height, confidence.width};
  const Scan scan{options.radius, options.threshold, mask};

  context.parallel_for(confidence.height, kGrain, [&](int begin, int end, int slot) {
    Candidate* found = lists.chunk(begin / kGrain);
    int n = 0;
    for (int y = begin; y < end; ++y)
      n += scan_row(scan, rows, y, nullptr, scratch + slot_size * static_cast<std::size_t>(slot), found + n);
    lists.count(begin / kGrain) = n;
  });

  *out.count = lists.best(workspace, options.max_keypoints, confidence.width, out);
}

}  // namespace fastretina::cpu
