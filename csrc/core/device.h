// Places of threads; sums of a warp and of a block, in a fixed order: the same bits in every run. Device code only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/types.h"

namespace fastretina::cuda {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;
constexpr int kRowLanes = 16;  // of row sums: element x goes to lane x % 16, as on the CPU; half a warp a row

// Of a grid of two-dimensional blocks, a thread a pixel.
__device__ inline int pixel_x() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }
__device__ inline int pixel_y() { return static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y); }

template <class T>
__device__ T warp_sum(T value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kAllLanes, value, mask);
  return value;
}

// Of kThreads threads, one-dimensional; every thread gets the sum.
template <int kThreads, class T>
__device__ T block_sum(T value) {
  __shared__ T partial[kThreads / 32];
  const int t = static_cast<int>(threadIdx.x);
  value = warp_sum(value);
  __syncthreads();  // an earlier sum may still be read
  if (t % 32 == 0) partial[t / 32] = value;
  __syncthreads();
  T sum{};
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += partial[warp];
  return sum;
}

// The sum of the values of thread 0 to this one. Of kThreads threads, one-dimensional.
template <int kThreads, class T>
__device__ T block_prefix(T value) {
  __shared__ T sums[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  __syncthreads();  // earlier sums may still be read
  sums[t] = value;
  __syncthreads();
  for (int step = 1; step < kThreads; step *= 2) {
    const T before = t >= step ? sums[t - step] : T{};
    __syncthreads();
    sums[t] += before;
    __syncthreads();
  }
  return sums[t];
}

// Where a kept item goes if those of all threads follow each other in the threads' order, behind `count` earlier ones;
// `count` grows by all of them. Of kThreads threads, one-dimensional; every thread takes part.
template <int kThreads>
__device__ int block_place(bool kept, int& count) {
  __shared__ int votes[kThreads / 32];
  const int t = static_cast<int>(threadIdx.x);
  const unsigned ballot = __ballot_sync(kAllLanes, kept);
  __syncthreads();  // earlier votes may still be read
  if (t % 32 == 0) votes[t / 32] = __popc(ballot);
  __syncthreads();
  int place = count + __popc(ballot & ((1u << (t % 32)) - 1));
  for (int warp = 0; warp < kThreads / 32; ++warp) {
    if (warp < t / 32) place += votes[warp];
    count += votes[warp];
  }
  return place;
}

// The sum of `count` numbers, by a whole block.
template <int kThreads, class T>
__device__ T block_total(const T* values, int count) {
  T sum{};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += values[i];
  return block_sum<kThreads>(sum);
}

// Of the sixteen lanes of a row: lane 0 of the half warp has the sum of the doubles.
__device__ inline double row_sum(float lane) {
  double sum = static_cast<double>(lane);
  for (int half = kRowLanes / 2; half > 0; half /= 2)
    sum += __shfl_down_sync(kAllLanes, sum, static_cast<unsigned>(half));
  return sum;
}

// Are all 2 radius + 1 elements of a line through (x, y) set? What lies beyond the frame counts as `beyond`.
__device__ inline bool all_set(const View<const std::uint8_t>& map, int x, int y, int dx, int dy, int radius,
                               bool beyond) {
  for (int k = -radius; k <= radius; ++k) {
    const int u = x + k * dx, v = y + k * dy;
    if (u < 0 || v < 0 || u >= map.width || v >= map.height ? !beyond : map.row(v)[u] == 0) return false;
  }
  return true;
}

}  // namespace fastretina::cuda
