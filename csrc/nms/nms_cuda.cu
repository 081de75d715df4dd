#include "nms/nms.h"
#include "nms/nms_device.h"
#include "nms/nms_math.h"
#include "nms/nms_scan.h"

namespace fastretina::cuda {
namespace {

__device__ bool first_in_window(const View<const float>& map, int radius, int x, int y, float score) {
  const int x0 = max(x - radius, 0), x1 = min(x + radius, map.width - 1);
  const int y0 = max(y - radius, 0), y1 = min(y + radius, map.height - 1);
  for (int v = y0; v <= y1; ++v)
    for (int u = x0; u <= x1; ++u)
      if (suppresses(map.row(v)[u], v < y || (v == y && u < x), score)) return false;
  return true;
}

// The nearest neighbours first: few pixels survive them.
__global__ void find_kernel(View<const float> map, View<const std::uint8_t> mask, int radius, float threshold,
                            Candidates list) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (x >= map.width || y >= map.height) return;
  const float score = map.row(y)[x];
  if (!(score > threshold) || (!mask.empty() && !mask.row(y)[x])) return;
  if (radius > 1 && !first_in_window(map, 1, x, y, score)) return;
  if (!first_in_window(map, radius, x, y, score)) return;
  append(list, score,
         static_cast<std::uint32_t>(y) * static_cast<std::uint32_t>(map.width) + static_cast<std::uint32_t>(x));
}

struct WriteKeypoint {
  Keypoints out;
  int map_width;
  __device__ void operator()(int place, float score, int index) const {
    const int y = index / map_width;
    out.xy[2 * place] = static_cast<float>(index - y * map_width);
    out.xy[2 * place + 1] = static_cast<float>(y);
    out.score[place] = score;
  }
};

}  // namespace

void write_keypoints(const Context& context, Workspace& workspace, const Candidates& list, int map_width,
                     int max_keypoints, const Keypoints& out) {
  write_best(context, workspace, list, max_keypoints, out.count, WriteKeypoint{out, map_width});
}

void find_keypoints(const Context& context, View<const float> confidence, View<const std::uint8_t> mask,
                    const NmsOptions& options, const Candidates& list) {
  launch(context, {blocks_for(confidence.width, 32), blocks_for(confidence.height, 8)}, {32, 8}, find_kernel,
         confidence, mask, options.radius, options.threshold, list);
}

void nms(const Context& context, Workspace& workspace, View<const float> confidence, View<const std::uint8_t> mask,
         const NmsOptions& options, const Keypoints& out) {
  cpu::check_options(options, confidence.width, confidence.height, mask, out);
  if (confidence.empty()) return fill(context, out.count, 0, sizeof(int));
  const Workspace::Frame frame(workspace);
  const Candidates list =
      take_candidates(context, workspace, cpu::max_found(confidence.height, confidence.width, options.radius));
  find_keypoints(context, confidence, mask, options, list);
  write_keypoints(context, workspace, list, confidence.width, options.max_keypoints, out);
}

}  // namespace fastretina::cuda
