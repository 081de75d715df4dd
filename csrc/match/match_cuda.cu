#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/ranking_device.h"
#include "match/match_device.h"

namespace fastretina::cuda {
namespace {

constexpr int kThreads = 256;

// --- rows as the kernels read them ------------------------------------------------------------------------------
__device__ float rounded(Precision precision, float v) {
  return precision == Precision::bf16 ? bf16_round(v) : i8_round(v);
}

// A thread an element of the padded rows; what lies past the count or the dimensions is 0.
__global__ void round_kernel(Descriptors set, Precision precision, float* out) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < std::int64_t{min(*set.count, set.capacity)} * set.dims) out[at] = rounded(precision, set.rows[at]);
}

template <class Word>
__global__ void encode_kernel(Descriptors set, int row_words, Word* out) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto row = static_cast<int>(at / row_words), k = static_cast<int>(at % row_words);
  if (row >= tensor_rows(set.capacity)) return;
  const float v = row < *set.count && k < set.dims ? set.rows[std::int64_t{row} * set.dims + k] : 0.f;
  if constexpr (sizeof(Word) == 2)
    out[at] = static_cast<Word>(bf16_bits(v));
  else
    out[at] = static_cast<Word>(static_cast<int>(i8_round(v)));
}

const void* encode(const Context& context, Workspace& workspace, const Descriptors& set, const Sets& sets) {
  if (sets.precision == Precision::f32) return set.rows;
  if (!sets.tensor_cores) {
    const std::int64_t size = std::int64_t{set.capacity} * set.dims;
    float* out = workspace.take<float>(static_cast<std::size_t>(size));
    launch(context, blocks_for(size, kThreads), kThreads, round_kernel, set, sets.precision, out);
    return out;
  }
  const int row_bytes = tensor_row_bytes(sets.precision, set.dims);
  const std::int64_t bytes = tensor_rows(set.capacity) * row_bytes;
  auto* out = workspace.take<std::byte>(static_cast<std::size_t>(bytes));
  if (sets.precision == Precision::bf16)
    launch(context, blocks_for(bytes / 2, kThreads), kThreads, encode_kernel<std::uint16_t>, set, row_bytes / 2,
           reinterpret_cast<std::uint16_t*>(out));
  else
    launch(context, blocks_for(bytes, kThreads), kThreads, encode_kernel<std::int8_t>, set, row_bytes,
           reinterpret_cast<std::int8_t*>(out));
  return out;
}

// --- all pairs, f32 ---------------------------------------------------------------------------------------------
// A thread keeps 8 x 4 scores of a tile of 128 x 64; each is one chain of fmaf over k = 0, 1, ..., as on the CPU.
constexpr int kRows = 128, kColumns = 64, kDepth = 16, kOwnRows = 8, kOwnColumns = 4;

__device__ void load_tile(const float* rows, int first, int count, int dims, int k0, int tile, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < tile * kDepth; i += kThreads) {
    const int row = i / kDepth, k = i % kDepth;
    to[k * (tile + 4) + row] =
        first + row < count && k0 + k < dims ? rows[std::int64_t{first + row} * dims + k0 + k] : 0.f;
  }
}

__global__ void __launch_bounds__(kThreads)
    chain_kernel(const float* fixed, const float* moving, const int* fixed_count, const int* moving_count, int dims,
                 Bests bests) {
  __shared__ float a[kDepth][kRows + 4], b[kDepth][kColumns + 4];
  __shared__ Key best_rows[kRows], best_columns[kColumns];
  const int n = *fixed_count, m = *moving_count, t = static_cast<int>(threadIdx.x);
  const int i0 = static_cast<int>(blockIdx.y) * kRows, j0 = static_cast<int>(blockIdx.x) * kColumns;
  if (i0 >= n || j0 >= m) return;
  const int row = t / (kColumns / kOwnColumns) * kOwnRows, column = t % (kColumns / kOwnColumns) * kOwnColumns;
  float sum[kOwnRows][kOwnColumns] = {};
  for (int k0 = 0; k0 < dims; k0 += kDepth) {
    __syncthreads();
    load_tile(fixed, i0, n, dims, k0, kRows, a[0]);
    load_tile(moving, j0, m, dims, k0, kColumns, b[0]);
    __syncthreads();
    for (int k = 0; k < kDepth; ++k)
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r)
#pragma unroll
        for (int c = 0; c < kOwnColumns; ++c) sum[r][c] = fmaf(a[k][row + r], b[k][column + c], sum[r][c]);
  }
  if (t < kRows) best_rows[t] = 0;
  if (t < kColumns) best_columns[t] = 0;
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kOwnRows; ++r) {
    const int i = i0 + row + r;
    Key best = 0;
#pragma unroll
    for (int c = 0; c < kOwnColumns; ++c) {
      const int j = j0 + column + c;
      if (i < n && j < m && bests.counts_for_row(i, j)) best = max(best, key_of(sum[r][c], j));
    }
    atomicMax(&best_rows[row + r], best);
  }
#pragma unroll
  for (int c = 0; c < kOwnColumns; ++c) {
    const int j = j0 + column + c;
    Key best = 0;
#pragma unroll
    for (int r = 0; r < kOwnRows; ++r) {
      const int i = i0 + row + r;
      if (i < n && j < m && bests.counts_for_column(i, j)) best = max(best, key_of(sum[r][c], i));
    }
    atomicMax(&best_columns[column + c], best);
  }
  __syncthreads();
  if (t < kRows && i0 + t < n) atomicMax(&bests.rows[i0 + t], best_rows[t]);
  if (t < kColumns && j0 + t < m) atomicMax(&bests.columns[j0 + t], best_columns[t]);
}

void search(const Context& context, const Sets& sets, const void* fixed, const void* moving, const Bests& bests) {
  if (sets.tensor_cores && sets.precision != Precision::f32) return search_tensor(context, sets, fixed, moving, bests);
  launch(context, {blocks_for(sets.moving.capacity, kColumns), blocks_for(sets.fixed.capacity, kRows)}, kThreads,
         chain_kernel, static_cast<const float*>(fixed), static_cast<const float*>(moving), sets.fixed.count,
         sets.moving.count, sets.fixed.dims, bests);
}

// --- the end ----------------------------------------------------------------------------------------------------
__global__ void mutual_kernel(Finish finish, Candidates list) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= *finish.fixed_count || *finish.moving_count <= 0) return;
  const Key best = finish.first.rows[i];
  if (best == 0) return;
  const int j = index_of(best);
  if (index_of(finish.first.columns[j]) != i) return;
  const bool i8 = finish.unit != 1;
  const float score = i8 ? i8_score(score_of(best)) : score_of(best);
  if (!(score >= finish.min_similarity)) return;
  if (finish.second.rows) {
    const auto passes = [&](Key second) {
      const float next = second == 0 ? -HUGE_VALF : i8 ? i8_score(score_of(second)) : score_of(second);
      return passes_ratio(score, next, finish.ratio);
    };
    if (!passes(finish.second.rows[i]) || !passes(finish.second.columns[j])) return;
  }
  append(list, score, static_cast<std::uint32_t>(i));
}

struct WriteMatch {
  Matches out;
  const Key* rows;
  __device__ void operator()(int place, float score, int index) const {
    out.fixed[place] = index;
    out.moving[place] = index_of(rows[index]);
    out.score[place] = score;
  }
};

Bests take_bests(const Context& context, Workspace& workspace, const Sets& sets) {
  const auto n = static_cast<std::size_t>(sets.fixed.capacity), m = static_cast<std::size_t>(sets.moving.capacity);
  Bests bests{workspace.take<Key>(n + m)};
  bests.columns = bests.rows + n;
  fill(context, bests.rows, 0, (n + m) * sizeof(Key));
  return bests;
}

}  // namespace

void write_mutual(const Context& context, Workspace& workspace, const Finish& finish, int fixed_capacity,
                  const Matches& out) {
  const Candidates list = take_candidates(context, workspace, fixed_capacity);
  launch(context, blocks_for(fixed_capacity, kThreads), kThreads, mutual_kernel, finish, list);
  write_best(context, workspace, list, out.capacity, out.count, WriteMatch{out, finish.first.rows});
}

void match_with(const Context& context, Workspace& workspace, const Sets& sets, const MatchOptions& options,
                const Matches& out) {
  require(options.precision != Precision::f16, "precision", "f16", "f32, bf16 or i8");
  require(out.capacity >= std::min(sets.fixed.capacity, sets.moving.capacity), "out", "too small a capacity",
          "at least the smaller set's capacity");
  if (sets.fixed.capacity <= 0 || sets.moving.capacity <= 0) return fill(context, out.count, 0, sizeof(int));
  const Workspace::Frame frame(workspace);
  const void* fixed = encode(context, workspace, sets.fixed, sets);
  const void* moving = encode(context, workspace, sets.moving, sets);
  Finish finish;
  finish.fixed_count = sets.fixed.count, finish.moving_count = sets.moving.count;
  finish.min_similarity = options.min_similarity, finish.ratio = options.ratio;
  finish.unit = options.precision == Precision::i8 ? kI8Scale : 1;
  finish.first = take_bests(context, workspace, sets);
  search(context, sets, fixed, moving, finish.first);
  if (options.ratio < 1.0f) {
    finish.second = take_bests(context, workspace, sets);
    finish.second.first_rows = finish.first.rows, finish.second.first_columns = finish.first.columns;
    search(context, sets, fixed, moving, finish.second);
  }
  write_mutual(context, workspace, finish, sets.fixed.capacity, out);
}

void match(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
           const MatchOptions& options, const Matches& out) {
  match_with(context, workspace, {fixed, moving, options.precision, compute_capability() >= 80}, options, out);
}

}  // namespace fastretina::cuda
