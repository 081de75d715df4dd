// A list that blocks append to, and its best in the order of better(): key points, matches. Device code.
//
// Appending counts with atomics, so that the list's order differs from run to run; the order of the result does not: it
// is that of a total order. Many equal scores cost time, not correctness.
#pragma once

#include "core/cuda.h"
#include "core/device.h"
#include "core/order.h"

namespace fastretina::cuda {

constexpr int kScoreBuckets = 4096;

struct Candidates {
  float* score = nullptr;          // finite
  std::uint32_t* index = nullptr;  // unique, below 2^31
  int* buckets = nullptr;          // kScoreBuckets: how many in each, best first; and as many cursors
  int* count = nullptr;
  int capacity = 0;
};

// Sign, exponent and three bits of the fraction; the best scores first. Monotone: buckets never contradict better().
__device__ inline int score_bucket(float score) {
  const std::uint32_t u = __float_as_uint(score + 0.0f);  // -0 and +0 are one score
  return static_cast<int>(((u & 0x80000000u) ? u : ~u & 0x7FFFFFFFu) >> 20);
}

// What does not fit is dropped.
__device__ inline void append(const Candidates& list, float score, std::uint32_t index) {
  const int at = atomicAdd(list.count, 1);
  if (at >= list.capacity) return;
  list.score[at] = score;
  list.index[at] = index;
  atomicAdd(&list.buckets[score_bucket(score)], 1);
}

inline Candidates take_candidates(const Context& context, Workspace& workspace, std::int64_t capacity) {
  Candidates list;
  list.capacity = static_cast<int>(capacity);
  list.score = workspace.take<float>(static_cast<std::size_t>(capacity));
  list.index = workspace.take<std::uint32_t>(static_cast<std::size_t>(capacity));
  list.buckets = workspace.take<int>(2 * kScoreBuckets + 1);  // and the count: one fill for all
  list.count = list.buckets + 2 * kScoreBuckets;
  fill(context, list.buckets, 0, (2 * kScoreBuckets + 1) * sizeof(int));
  return list;
}

namespace ranking {

constexpr int kThreads = 256, kPerThread = kScoreBuckets / kThreads;

// Candidates by bucket. Every block sums the counts up for itself; the first leaves the sums for the ranking.
static __global__ void scatter_kernel(Candidates list, int* start, float* score, std::uint32_t* index) {
  __shared__ int first[kScoreBuckets + 1];
  const int t = static_cast<int>(threadIdx.x);
  int own = 0;
  for (int b = 0; b < kPerThread; ++b) own += list.buckets[t * kPerThread + b];
  int sum = block_prefix<kThreads>(own) - own;
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
  const int bucket = score_bucket(list.score[at]),
            to = first[bucket] + atomicAdd(&list.buckets[kScoreBuckets + bucket], 1);
  score[to] = list.score[at];
  index[to] = list.index[at];
}

// A candidate's place: all of the buckets before, and those of its own that come before it.
template <class Write>
__global__ void rank_kernel(const int* start, const float* score, const std::uint32_t* index, int most, int* count,
                            Write write) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), n = start[kScoreBuckets];
  if (at == 0) *count = min(n, most);
  if (at >= n) return;
  const float own = score[at];
  const int bucket = score_bucket(own), begin = start[bucket], end = start[bucket + 1];
  if (begin >= most) return;
  int place = begin;
  for (int other = begin; other < end; ++other) place += better(score[other], index[other], own, index[at]);
  if (place < most) write(place, own, static_cast<int>(index[at]));
}

}  // namespace ranking

// write(place, score, index) for the `most` best, and how many these are -> count. Two launches.
template <class Write>
void write_best(const Context& context, Workspace& workspace, const Candidates& list, int most, int* count,
                const Write& write) {
  const auto capacity = static_cast<std::size_t>(list.capacity);
  int* start = workspace.take<int>(kScoreBuckets + 1);
  float* score = workspace.take<float>(capacity);
  auto* index = workspace.take<std::uint32_t>(capacity);
  const dim3 blocks(blocks_for(list.capacity, ranking::kThreads));
  launch(context, blocks, ranking::kThreads, ranking::scatter_kernel, list, start, score, index);
  launch(context, blocks, ranking::kThreads, ranking::rank_kernel<Write>, start, score, index, most, count, write);
}

}  // namespace fastretina::cuda
