// Inside `match`: a kernel goes over the score matrix tile by tile, keeps a tile in registers over all of k, and leaves
// only the best of every row and column.
//
// Every element is one chain fmaf(a[k], b[k], sum) over k = 0, 1, ...; kernels differ in how many chains run side by
// side and never in the chain. bf16 and i8 without an instruction for them run the f32 kernel on the rounded values:
// the same sums (exact integers for i8).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/simd.h"
#include "core/types.h"

namespace fastretina::cpu::matching {

// Screening: who came within the margin of the best score so far.
struct Shortlist {
  static constexpr int kCapacity = 15;
  int count = 0;  // kCapacity + 1: there were more
  int index[kCapacity];
  float score[kCapacity];
};

// First under better(), and the score of the next one (read only with a ratio test).
struct Best {
  float* score = nullptr;  // -infinity before the first
  int* index = nullptr;
  float* second = nullptr;     // NULL: not wanted
  Shortlist* close = nullptr;  // not NULL: screening; score is the best, index stays -1
};

struct Tiles {
  const void* rows = nullptr;    // fixed rows, row-major words
  const void* panels = nullptr;  // moving rows: panel after panel, each [step][panel width] words
  std::ptrdiff_t steps = 0;      // words a row
  int row_begin = 0, row_end = 0;
  int panel_begin = 0, panel_end = 0;
  int columns = 0;                      // moving rows in all; the last panel is padded
  const std::int32_t* start = nullptr;  // i8: what the sum of a column starts from, panel-padded
  Best row_best, column_best;           // indexed by row, by column (panel-padded)
  float margin = 0.0f;                  // of Best::close
};

// A word is what one step of the inner loop takes from a row: a float, two bf16 or four bytes.
struct Kernel {
  int panel_width = 0;
  int per_word = 1;           // elements a word
  bool moving_start = false;  // needs Tiles::start
  // n rows of dims floats -> words. NULL: the floats are the words.
  void (*encode_fixed)(const float* rows, int n, int dims, void* words) = nullptr;
  void (*encode_moving)(const float* rows, int n, int dims, void* words) = nullptr;
  void (*pack)(const void* words, std::ptrdiff_t steps, int n, int panel_begin, int panel_end, void* panels) = nullptr;
  void (*run)(const Tiles& tiles) = nullptr;
};

Kernel choose_kernel(Precision precision, SimdLevel level);

// One chain for each of `count` pairs of rows, several side by side.
void dot_pairs(SimdLevel level, const float* a, const float* b, int dims, const int* ia, const int* ib, int count,
               float* score);

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FR_MATCH_X86 1
Kernel avx2_f32();
Kernel avx512_f32();
Kernel avx512_i8();
Kernel avx512bf16();
void dot_pairs_avx2(const float* a, const float* b, int dims, const int* ia, const int* ib, int count, float* score);
#endif

}  // namespace fastretina::cpu::matching
