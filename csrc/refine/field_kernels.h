// The loop over a cell's points: what costs time in refine_field. Definition in field_kernels.cpp, one clone an
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastretina::field_kernels {

constexpr int kFieldPad = 16;  // readable points behind the last one
constexpr int kTaps = 16;  // control points that move a point: 4 rows of 4

// Points as parallel arrays: where the transform puts them in FIXED, their place in the cell, and the MOVING
// map's values, turned into the FIXED frame.
struct FieldPoints {
  float *x, *y, *tx, *ty;
  float* m[3];
};

struct FieldJob {
  FieldPoints points;
  const std::uint32_t* level;  // FIXED's finest
  std::ptrdiff_t stride;
  int width, height;
};

// Sums over a cell's points. f: the FIXED values under the displaced points, s: the strength among them, m: MOVING's,
// G: the derivative of f by the displacement (plane px) of each of the cell's control points, x then y.
struct CellSums {
  float xx[kTaps][kTaps], xy[kTaps][kTaps], yy[kTaps][kTaps];  // G'G; xy: x of the first with y of the second
  float gm[2][kTaps], gf[2][kTaps], gs[2][kTaps];              // G'm, G'f, G's
  double ff, fm, fs;
};

// control: displacements of the cell's control points, x then y, plane px. with_matrix false: ff, fm and fs alone.
void cell_sums(const FieldJob& job, const float control[2][kTaps], int begin, int end, bool with_matrix,
               CellSums& sums);

}  // namespace fastretina::field_kernels
