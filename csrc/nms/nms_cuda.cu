#include <algorithm>

#include "nms/nms.h"
#include "nms/nms_math.h"
#include "nms/nms_scan.h"
#include "nms/topk_device.h"

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
                            KeypointList list) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (x >= map.width || y >= map.height) return;
  const float score = map.row(y)[x];
  if (!(score > threshold) || (!mask.empty() && !mask.row(y)[x])) return;
  if (radius > 1 && !first_in_window(map, 1, x, y, score)) return;
  if (!first_in_window(map, radius, x, y, score)) return;
  append(list, score, static_cast<std::uint32_t>(y) * static_cast<std::uint32_t>(map.width) + static_cast<std::uint32_t>(x));
}

constexpr int kThreads = 256, kPerThread = kScoreBuckets / kThreads;

// Candidates by bucket. Every block sums the counts up for itself; the first leaves the sums for the ranking.
__global__ void scatter_kernel(KeypointList list, int* start, int* cursor, float* score, std::uint32_t* index) {
  __shared__ int first[kScoreBuckets + 1];
  __shared__ int sums[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  int own = 0;
  for (int b = 0; b < kPerThread; ++b) own += list.buckets[t * kPerThread + b];
  sums[t] = own;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const int before = t >= step ? sums[t - step] : 0;
    __syncthreads();
    sums[t] += before;
    __syncthreads();
  }
  int sum = sums[t] - own;
  for (int b = 0; b < kPerThread; ++b) {
    first[t * kPerThread + b] = sum;
    sum += list.buckets[t * kPerThread + b];
  }
  if (t == kThreads - 1) first[kScoreBuckets] = sum;
  __syncthreads();
  if (blockIdx.x == 0)
    for (int b = t; b <= kScoreBuckets; b += kThreads) start[b] = first[b];
  const int n = min(*list.count, list.capacity), at = static_cast<int>(blockIdx.x) * kThreads + t;
  if (at >= n) return;
  const int bucket = score_bucket(list.score[at]), to = first[bucket] + atomicAdd(&cursor[bucket], 1);
  score[to] = list.score[at];
  index[to] = list.index[at];
}

// A candidate's place: all of the buckets before, and those of its own that come before it.
__global__ void rank_kernel(const int* start, const float* score, const std::uint32_t* index, int map_width, Keypoints out,
                            int max_keypoints) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), n = start[kScoreBuckets];
  if (at == 0) *out.count = min(n, max_keypoints);
  if (at >= n) return;
  const float own = score[at];
  const int bucket = score_bucket(own), begin = start[bucket], end = start[bucket + 1];
  if (begin >= max_keypoints) return;
  int place = begin;
  for (int other = begin; other < end; ++other) place += better(score[other], index[other], own, index[at]);
  if (place >= max_keypoints) return;
  const int y = static_cast<int>(index[at]) / map_width;
  out.xy[2 * place] = static_cast<float>(static_cast<int>(index[at]) - y * map_width);
  out.xy[2 * place + 1] = static_cast<float>(y);
  out.score[place] = own;
}

}  // namespace

KeypointList take_list(const Context& context, Workspace& workspace, int width, int height, int radius) {
  KeypointList list;
  list.capacity = static_cast<int>(cpu::max_found(height, width, radius));
  list.score = workspace.take<float>(static_cast<std::size_t>(list.capacity));
  list.index = workspace.take<std::uint32_t>(static_cast<std::size_t>(list.capacity));
  list.buckets = workspace.take<int>(2 * kScoreBuckets + 1);  // with the cursors of write_best: one fill for all
  list.count = list.buckets + 2 * kScoreBuckets;
  fill(context, list.buckets, 0, (2 * kScoreBuckets + 1) * sizeof(int));
  return list;
}

void write_best(const Context& context, Workspace& workspace, const KeypointList& list, int map_width, int max_keypoints,
                const Keypoints& out) {
  const auto capacity = static_cast<std::size_t>(list.capacity);
  int* start = workspace.take<int>(kScoreBuckets + 1);
  float* score = workspace.take<float>(capacity);
  auto* index = workspace.take<std::uint32_t>(capacity);
  const dim3 blocks(blocks_for(list.capacity, kThreads));
  launch(context, blocks, kThreads, scatter_kernel, list, start, list.buckets + kScoreBuckets, score, index);
  launch(context, blocks, kThreads, rank_kernel, start, score, index, map_width, out, max_keypoints);
}

void find_keypoints(const Context& context, View<const float> confidence, View<const std::uint8_t> mask,
                    const NmsOptions& options, const KeypointList& list) {
  launch(context, {blocks_for(confidence.width, 32), blocks_for(confidence.height, 8)}, {32, 8}, find_kernel, confidence,
         mask, options.radius, options.threshold, list);
}

void nms(const Context& context, Workspace& workspace, View<const float> confidence, View<const std::uint8_t> mask,
         const NmsOptions& options, const Keypoints& out) {
  cpu::check_options(options, confidence.width, confidence.height, mask, out);
  if (confidence.empty()) return fill(context, out.count, 0, sizeof(int));
  const Workspace::Frame frame(workspace);
  const KeypointList list = take_list(context, workspace, confidence.width, confidence.height, options.radius);
  find_keypoints(context, confidence, mask, options, list);
  write_best(context, workspace, list, confidence.width, options.max_keypoints, out);
}

}  // namespace fastretina::cuda
