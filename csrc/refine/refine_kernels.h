// Loops over points and lattices: what costs time in refine. Definitions in refine_kernels.cpp, one clone an
// instruction set.
#pragma once

#include "core/types.h"
#include "refine/refine_math.h"

namespace fastretina::refine_kernels {

constexpr int kLanes = 16;   // partial sums of every reduction, whatever the vector width
constexpr int kTile = 128;   // points a tile: its arrays stay in the first-level cache
constexpr int kChunk = 512;  // points a chunk of parallel_for

// Points of the overlap: normalised MOVING coordinates and the MOVING map's three values, turned into the FIXED frame.
struct PointSet {
  float *u, *v;
  float* m[3];
};

struct Job {
  PointSet points;
  const std::uint32_t* level = nullptr;  // of FIXED
  std::ptrdiff_t stride = 0;
  int width = 0, height = 0;
  float per_plane_px = 1;  // level px a plane px
  refine_math::FloatMap map;
  TransformKind kind = TransformKind::similarity;
  float mirror = 1;
  float ox = 0, oy = 0;  // the model's origin, level px
  float bend = 0;        // - plane px a level px / radius: derivative of the perspective terms
};

// Sums over points, q parameters: q (q + 1) / 2 of G'G (rows of the upper triangle), q of G'm, q of G' (strength only),
// q of G'f, then f'f, f'm and the sum of f's strength.
constexpr int sum_count(int q) { return q * (q + 1) / 2 + 3 * q + 3; }
constexpr int kMaxSums = sum_count(12);

void accumulate(const Job& job, int parameters, int begin, int end, double* sums);  // begin, end: multiples of kLanes

// Row of the lattice: MOVING pixels x = 0, 2, 4 ... of one row against FIXED.
struct LatticeJob {
  const std::uint32_t *fixed, *moving;  // moving: the row
  std::ptrdiff_t stride;
  int width, height, moving_width;
  refine_math::FloatMap map;
  float u0, du, v;
};
enum LatticeSum { kN, kX, kF, kM, kFF, kMM, kFM, kVF, kVM, kCC, kSS, kCS, kSC, kLatticeSums };
void lattice_row(const LatticeJob& job, double* sums);

// Moves the points' values: u, v and bilinear values of one level of MOVING at plane points.
struct GatherJob {
  const std::uint32_t* level;
  std::ptrdiff_t stride;
  int width, height;
  float per_plane_px;
};
void gather(const GatherJob& job, const float* x, const float* y, int n, const PointSet& out);

// The points of the overlap: where a point, under the map, and its neighbours at `margin` lie inside both fields of view.
struct OverlapJob {
  View<const std::uint32_t> fixed, moving;  // finest levels
  refine_math::FloatMap map;
  refine_math::Frame frame;
  float margin;
  int thin;  // every how manieth point is asked
};
struct PlacedPoints {
  float *x, *y, *u, *v;  // plane px, and normalised
};
// points: x, y of count x thin. The first `found` of `out` are those of the overlap, in order; there is room for count + 1.
void overlap(const OverlapJob& job, const float* points, int count, const PlacedPoints& out, int& found);

// Sum of the squared distances between two maps of n points; n: a multiple of kLanes.
void apart(const refine_math::FloatMap& a, const refine_math::FloatMap& b, const float* u, const float* v, int n,
           double& sum);

}  // namespace fastretina::refine_kernels
