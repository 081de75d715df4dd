// Finding the key points of a row, shared by nms (rows of the caller's map) and detect (rows of a ring).
//
// Three sieves, each on what the last one left: threshold and the vertical neighbours (every pixel, whole vectors), the
// horizontal neighbours, the full window. A pixel that is first in its window is first among its neighbours, so the
// first two only save time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"
#include "nms/nms.h"

namespace fastretina::cpu {

struct Candidate {
  float score;
  std::uint32_t index;  // row-major, in the whole map
};

// Rows [top, bottom) of a map. A pointer each: they need not lie one after the other.
struct Rows {
  const float* const* pointers = nullptr;
  int top = 0, bottom = 0;
  int width = 0;
  const float* operator[](int y) const { return pointers[y - top]; }
};

struct Scan {
  int radius = 0;
  float threshold = 0;
  View<const std::uint8_t> mask;  // of the whole map, or empty
};

// The first sieve's result, for AVX-512: bit l of word x / 16 of a row says that pixel x + l exceeds the threshold and
// comes before its two vertical neighbours. A row has flag_stride words, zero from flag_words on; bits past the width
// are ignored.
constexpr int flag_words(int width) { return (width + 15) / 16; }
constexpr int flag_stride(int width) { return (flag_words(width) + 15) / 16 * 16; }

// At most this many key points in `rows` rows: any two are more than `radius` apart. The scan may write one more.
std::int64_t max_found(int rows, int width, int radius);

std::size_t scan_scratch_bytes(int width);

// Writes the key points of row y to `found` in index order; returns how many. `rows` holds the rows within `radius` of
// it, as far as the map reaches. flags: flag_stride words, or NULL.
int scan_row(const Scan& scan, const Rows& rows, int y, const std::uint16_t* flags, void* scratch, Candidate* found);

// The AVX-512 twin of scan_row, radius >= 1.
int scan_row_avx512(const Scan& scan, const Rows& rows, int y, const std::uint16_t* flags, void* scratch,
                    Candidate* found);

// The words of a row that have a flag, in order -> words (room for stride + 16); returns how many.
int list_words_avx512(const std::uint16_t* flags, int stride, int* words);

// Does pixel (x, y) come first in its window? Any radius, anywhere in the map.
bool first_in_window_avx512(const Rows& rows, int radius, int x, int y);

// The first sieve for one row; above, below: NULL at the map's edge.
void flag_row_avx512(const float* row, const float* above, const float* below, int width, float threshold,
                     std::uint16_t* flags);

// Throws unless the options make sense and `out` has room.
void check_options(const NmsOptions& options, int width, int height, View<const std::uint8_t> mask,
                   const Keypoints& out);

}  // namespace fastretina::cpu
