// All pairs by tensor cores: a block keeps a tile of 128 x 128 scores in registers over all of k, three steps of 64
// bytes of every row on their way through shared memory, and leaves the best of its rows and columns.
#include "core/device.h"
#include "match/match_device.h"
#include "match/tensor_device.h"

namespace fastretina::cuda {
namespace {

constexpr int kThreads = 256, kStages = 3;
constexpr int kWarpRows = 64, kWarpColumns = 32;  // of a warp: 2 x 4 warps a tile
constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;

struct Stage {
  std::byte fixed[kTileRows * kStepBytes], moving[kTileRows * kStepBytes];
};
struct Left {
  Key rows[kTileRows], columns[kTileRows];
};
union Shared {
  Stage stages[kStages];
  Left left;
};

// Where 16 bytes of a row are kept: shifted from row to row, so that eight rows of a column of them meet all banks.
__device__ int chunk_at(int row, int chunk) { return row * kStepBytes + (chunk ^ (row >> 1 & 3)) * 16; }

__device__ void load_stage(Stage& stage, const std::byte* fixed, const std::byte* moving, std::int64_t row_bytes,
                           int step) {
  constexpr int kChunks = kStepBytes / 16;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const std::int64_t from = row * row_bytes + step * kStepBytes + chunk * 16;
    tensor::copy_async(stage.fixed + chunk_at(row, chunk), fixed + from);
    tensor::copy_async(stage.moving + chunk_at(row, chunk), moving + from);
  }
}

template <class Sum>
__device__ void multiply_stage(const Stage& stage, int row0, int column0, Sum (&sum)[kRowTiles][kColumnTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // 32 bytes of k
    std::uint32_t a[kRowTiles][4], b[kColumnTiles / 2][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r)
      tensor::load_matrices(stage.fixed + chunk_at(row0 + 16 * r + lane % 16, 2 * half + lane / 16), a[r]);
#pragma unroll
    for (int c = 0; c < kColumnTiles / 2; ++c)
      tensor::load_matrices(
          stage.moving + chunk_at(column0 + 16 * c + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2), b[c]);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r)
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c)
        tensor::multiply_add(sum[r][c], a[r], b[c / 2][2 * (c % 2)], b[c / 2][2 * (c % 2) + 1]);
  }
}

__device__ Key greater(Key a, Key b) { return a > b ? a : b; }

// Element i of a fragment: row + 8 (i / 2), column + i % 2.
template <class Sum>
__device__ void leave_bests(const Sum (&sum)[kRowTiles][kColumnTiles][4], int row0, int column0, int tile_row,
                            int tile_column, int n, int m, const Bests& bests, Left& left) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = row0 + lane / 4, column = column0 + 2 * (lane % 4);
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = row + 16 * r + 8 * half, i = tile_row + at;
      Key best = 0;
#pragma unroll
      for (int c = 0; c < 2 * kColumnTiles; ++c) {
        const int j = tile_column + column + 8 * (c / 2) + c % 2;
        if (i < n && j < m && bests.counts_for_row(i, j))
          best = greater(best, key_of(static_cast<float>(sum[r][c / 2][2 * half + c % 2]), j));
      }
      for (int mask = 1; mask < 4; mask *= 2) best = greater(best, __shfl_xor_sync(kAllLanes, best, mask));
      if (lane % 4 == 0) atomicMax(&left.rows[at], best);
    }
#pragma unroll
  for (int c = 0; c < 2 * kColumnTiles; ++c) {
    const int at = column + 8 * (c / 2) + c % 2, j = tile_column + at;
    Key best = 0;
#pragma unroll
    for (int r = 0; r < 2 * kRowTiles; ++r) {
      const int i = tile_row + row + 16 * (r / 2) + 8 * (r % 2);
      if (i < n && j < m && bests.counts_for_column(i, j))
        best = greater(best, key_of(static_cast<float>(sum[r / 2][c / 2][2 * (r % 2) + c % 2]), i));
    }
    for (int mask = 4; mask < 32; mask *= 2) best = greater(best, __shfl_xor_sync(kAllLanes, best, mask));
    if (lane < 4) atomicMax(&left.columns[at], best);
  }
}

template <class Sum>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_kernel(const std::byte* fixed, const std::byte* moving, const int* fixed_count, const int* moving_count,
                  int row_bytes, Bests bests) {
  alignas(128) __shared__ Shared shared;
  const int n = *fixed_count, m = *moving_count, t = static_cast<int>(threadIdx.x), warp = t / 32;
  const int tile_row = static_cast<int>(blockIdx.y) * kTileRows, tile_column = static_cast<int>(blockIdx.x) * kTileRows;
  if (tile_row >= n || tile_column >= m) return;
  fixed += tile_row * std::int64_t{row_bytes};
  moving += tile_column * std::int64_t{row_bytes};
  const int steps = row_bytes / kStepBytes, row0 = warp / 4 * kWarpRows, column0 = warp % 4 * kWarpColumns;
  Sum sum[kRowTiles][kColumnTiles][4] = {};
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) load_stage(shared.stages[s], fixed, moving, row_bytes, s);
    tensor::commit_copies();
  }
  for (int step = 0; step < steps; ++step) {
    tensor::wait_for_copies<kStages - 2>();
    __syncthreads();  // the step is there for all, and all are done with the stage that is filled next
    const int next = step + kStages - 1;
    if (next < steps) load_stage(shared.stages[next % kStages], fixed, moving, row_bytes, next);
    tensor::commit_copies();
    multiply_stage(shared.stages[step % kStages], row0, column0, sum);
  }
  tensor::wait_for_copies<0>();
  __syncthreads();
  if (t < kTileRows) shared.left.rows[t] = shared.left.columns[t] = 0;
  __syncthreads();
  leave_bests(sum, row0, column0, tile_row, tile_column, n, m, bests, shared.left);
  __syncthreads();
  if (t < kTileRows && tile_row + t < n) atomicMax(&bests.rows[tile_row + t], shared.left.rows[t]);
  const int column = t - kTileRows;
  if (column >= 0 && tile_column + column < m)
    atomicMax(&bests.columns[tile_column + column], shared.left.columns[column]);
}

}  // namespace

void search_tensor(const Context& context, const Sets& sets, const void* fixed, const void* moving,
                   const Bests& bests) {
  const auto kernel = sets.precision == Precision::bf16 ? tensor_kernel<float> : tensor_kernel<int>;
  launch(context, {blocks_for(sets.moving.capacity, kTileRows), blocks_for(sets.fixed.capacity, kTileRows)}, kThreads,
         kernel, static_cast<const std::byte*>(fixed), static_cast<const std::byte*>(moving), sets.fixed.count,
         sets.moving.count, tensor_row_bytes(sets.precision, sets.fixed.dims), bests);
}

}  // namespace fastretina::cuda
