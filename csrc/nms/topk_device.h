// Key points on the device: a list that blocks append to, and its k best in the order of better().
//
// Appending counts with atomics, so that the list's order differs from run to run; the order of the result does not: it
// is that of a total order. A list that many equal scores fill costs time, not correctness.
#pragma once

#include "core/cuda.h"
#include "core/order.h"
#include "nms/nms.h"

namespace fastretina::cuda {

constexpr int kScoreBuckets = 4096;

struct KeypointList {
  float* score = nullptr;
  std::uint32_t* index = nullptr;  // row-major, in the whole map
  int* buckets = nullptr;          // kScoreBuckets: how many in each, best first
  int* count = nullptr;
  int capacity = 0;
};

// Sign, exponent and three bits of the fraction; the best scores first. Monotone: buckets never contradict better().
__device__ inline int score_bucket(float score) {
  const std::uint32_t u = __float_as_uint(score + 0.0f);  // -0 and +0 are one score
  return static_cast<int>(((u & 0x80000000u) ? u : ~u & 0x7FFFFFFFu) >> 20);
}

__device__ inline void append(const KeypointList& list, float score, std::uint32_t index) {
  const int at = atomicAdd(list.count, 1);
  if (at >= list.capacity) return;  // maps that are not finite: NaN hides pixels from one another
  list.score[at] = score;
  list.index[at] = index;
  atomicAdd(&list.buckets[score_bucket(score)], 1);
}

// Empty, with room for every key point of such a map.
KeypointList take_list(const Context& context, Workspace& workspace, int width, int height, int radius);

// The max_keypoints best -> out. Two launches.
void write_best(const Context& context, Workspace& workspace, const KeypointList& list, int map_width, int max_keypoints,
                const Keypoints& out);

// Any radius, from a stored map. One launch.
void find_keypoints(const Context& context, View<const float> confidence, View<const std::uint8_t> mask,
                    const NmsOptions& options, const KeypointList& list);

}  // namespace fastretina::cuda
