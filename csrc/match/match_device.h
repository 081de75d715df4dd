// What the kernels of match leave behind: for every row and every column the best partner, as one number.
#pragma once

#include "core/cuda.h"
#include "match/match.h"
#include "match/match_math.h"

namespace fastretina::cuda {

// The greater key is first under better(). 0: nobody. A maximum does not depend on who comes first, so that blocks may
// race for it.
using Key = unsigned long long;
FR_HD Key key_of(float score, int index) {
  if (!(score == score)) return 0;  // NaN is nobody's partner
  return static_cast<Key>(~descending_key(score)) << 32 | static_cast<std::uint32_t>(~index);
}
FR_HD int index_of(Key key) { return static_cast<int>(~static_cast<std::uint32_t>(key)); }
FR_HD float score_of(Key key) {
  const std::uint32_t k = ~static_cast<std::uint32_t>(key >> 32);
  return std::bit_cast<float>((k & 0x80000000u) ? k : ~k & 0x7FFFFFFFu);
}

// Per row and per column. With `second`, whoever is best is left out and the keys say the score of the next one.
struct Bests {
  Key *rows = nullptr, *columns = nullptr;
  const Key *first_rows = nullptr, *first_columns = nullptr;  // not NULL: looking for the second
  __device__ bool counts_for_row(int i, int j) const { return !first_rows || index_of(first_rows[i]) != j; }
  __device__ bool counts_for_column(int i, int j) const { return !first_columns || index_of(first_columns[j]) != i; }
};

// Runs over all pairs and leaves their bests. tensor_cores: of sm_80 and later; without, and for f32, every sum is the
// CPU twin's chain on rounded values.
struct Sets {
  Descriptors fixed, moving;
  Precision precision = Precision::f32;
  bool tensor_cores = false;
};
void search_tensor(const Context& context, const Sets& sets, const void* fixed, const void* moving, const Bests& bests);

// Of a row for the tensor cores: whole steps of 64 bytes, and rows in whole tiles.
constexpr int kStepBytes = 64, kTileRows = 128;
FR_HD int tensor_row_bytes(Precision precision, int dims) {
  const int bytes = precision == Precision::bf16 ? 2 * dims : dims;
  return (bytes + kStepBytes - 1) / kStepBytes * kStepBytes;
}
constexpr std::int64_t tensor_rows(int capacity) {
  return (std::int64_t{capacity} + kTileRows - 1) / kTileRows * kTileRows;
}

// Pairs that are each other's best and pass the options -> out, sorted.
struct Finish {
  const int *fixed_count = nullptr, *moving_count = nullptr;
  Bests first, second;  // second.rows NULL: no ratio test
  float unit = 1;       // a raw score of i8 is divided by its square
  float min_similarity = 0, ratio = 1;
};
void write_mutual(const Context& context, Workspace& workspace, const Finish& finish, int fixed_capacity,
                  const Matches& out);

// match() with the choice of instructions spelt out, for tests.
void match_with(const Context& context, Workspace& workspace, const Sets& sets, const MatchOptions& options,
                const Matches& out);

}  // namespace fastretina::cuda
