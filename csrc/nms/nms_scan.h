// Finding the key points of some rows of a map, shared by nms (rows of the caller's map) and detect (rows of a band).
//
// Three sieves, each on what the last one left: threshold and the vertical neighbours (every pixel, whole vectors), the
// horizontal neighbours, the full window. A pixel that is first in its window is first among its neighbours, so the
// first two only save time.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "nms/nms.h"

namespace fastretina::cpu {

struct Candidate {
  float score;
  std::uint32_t index;  // row-major, in the whole map
};

struct Scan {
  View<const float> map;          // rows [origin, origin + map.height) of the whole map
  int origin = 0;                 // its rows begin - radius ... end + radius - 1 are there, as far as the map reaches
  int begin = 0, end = 0;         // rows to search, counted in `map`
  View<const std::uint8_t> mask;  // of the whole map, or empty
  int radius = 0;
  float threshold = 0;
};

// Bit l of word x / 16 of a row: pixel x + l exceeds the threshold and comes before its two vertical neighbours.
constexpr int flag_words(int width) { return (width + 15) / 16; }

// At most this many key points in `rows` rows: any two are more than `radius` apart.
std::int64_t max_found(int rows, int width, int radius);

// Scratch elements for one scan; see scan().
std::size_t scan_scratch_bytes(int width);

// Appends the key points to `found` in index order, returns how many.
// flags: for the rows of `map`, flag_words(map.width) words a row, or NULL to have them computed here.
int scan(const Scan& s, const std::uint16_t* flags, void* scratch, Candidate* found);

int scan_avx512(const Scan& s, const std::uint16_t* flags, void* scratch, Candidate* found);

// Throws unless the options make sense and `out` has room.
void check_options(const NmsOptions& options, int width, int height, View<const std::uint8_t> mask,
                   const Keypoints& out);

}  // namespace fastretina::cpu
