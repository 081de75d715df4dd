// Room 8, refine: both images' vessel ridges + a transform -> a sub-pixel transform of the same or a higher kind, and
// its score.
//
// ridges() makes a polarity-free ridge map of a normalised plane. A Hessian of Gaussians (Lindeberg 1998) gives trace t
// and eigenvalue difference 2D; the strength min(|t|, 2D) is the curvature across a straight line, 0 for a blob and for
// a saddle, and the same for dark and bright vessels. It is softly saturated, s / (s + saturation x mean of s), and
// carried with the direction across the line at the double angle, so that opposite directions agree.
// The map is kept at four levels, blurred coarse to fine, as bytes.
//
// refine() maximises, coarse to fine, the correlation of (strength, strength x direction) of both images over a
// sparse lattice of the MOVING image (forward additive ECC, Evangelidis & Psarakis 2008, with three channels), by
// Levenberg-Marquardt steps on a posterior: the terms that bend the map have a prior, so that few ridges bend nothing.
// Where two lines cross the directions disagree, which is what keeps wrong overlaps from scoring.
// It never returns a lower score than it got.
//
// refine_field() adds what no such transform holds: a smooth displacement of FIXED (core/field.h), by Levenberg-Marquardt
// on the same posterior at the finest level, with a prior on bending. The field is kept only where it also raises the
// correlation on lattice points that had no part in the fit, so that noise never bends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

constexpr int kRidgeLevels = 4;
constexpr int kRidgeScale[kRidgeLevels] = {8, 4, 2, 1};  // plane px per level px, coarse to fine

struct RidgeOptions {
  float sigma_px = 2.4f;    // of the Hessian, network px
  float saturation = 8.0f;  // half strength at saturation x mean strength
  int rim_px = 4;           // no ridges nearer than that to the edge of the field of view
  int max_points = 65536;   // where refine looks: a lattice of 3 px, or wider where that is more points
};

// One pixel of a level, four bytes from the lowest up:
//   strength  x 255
//   c2        128 + 127 x strength x cos 2a, a: direction across the line
//   s2        128 + 127 x strength x sin 2a
//   inside    finest level: 255 inside the field of view (less rim_px), else 0; coarser levels: 0
using RidgePixel = std::uint32_t;

// Everything refine needs to know of one image. Caller-owned memory: ridge_map_bytes() and lay_out().
struct RidgeMap {
  View<RidgePixel> level[kRidgeLevels];  // ridge_level_size() each
  float* points = nullptr;               // capacity x 2: x, y (plane px), a lattice over the field of view, row by row
  int* count = nullptr;                  // 1
  int capacity = 0;                      // max_points
};

Size ridge_level_size(Size plane, int level);  // rounded up
std::size_t ridge_map_bytes(Size plane, const RidgeOptions& options);
// A map in `memory` (the host's or the device's) of ridge_map_bytes() bytes, 64-byte aligned. ridges() sets the count.
RidgeMap lay_out(Size plane, const RidgeOptions& options, std::byte* memory);

constexpr int kRidgeRowStep = 2;  // of ridge_correlation, as refine scores

struct RidgeCorrelation {
  double score = 0;    // in [-1, 1]
  int overlap_px = 0;  // how many MOVING pixels land inside the FIXED field of view
};

struct RefineOptions {
  TransformKind kind =
      TransformKind::identity;     // of the result; the start's kind where that is higher (identity: keep it)
  int max_iterations = 30;         // a level
  double epsilon_px = 0.02;        // a level ends when no point moves further, in level px
  double max_shift_px = 60.0;      // a refinement that moves a point of the overlap further is refused
  double max_frame_shift_px = 120; // the same for the corners of the MOVING frame: nothing extrapolates wildly
  double bend_px = 10.0;           // prior deviation of the bending terms, as displacement half a frame from its centre
  double samples_per_point = 0.036;  // how many independent observations a point counts for against the prior
  int min_points = 64;             // fewer points in the overlap: nothing is refined
  int first_level = 0;             // coarser levels are left out: the start is known to be near
};

struct Refinement {
  Transform T_fixed_moving;
  double score_before = 0.0;  // ridge_correlation of the start, in [-1, 1]
  double score_after = 0.0;   // >= score_before
  // Log-likelihood that the result gains over the start, in nats: how clearly the ridges ask for it.
  double gain_nats = 0.0;
  double shift_px = 0.0;      // root mean square over the overlap of how far points moved
  int iterations = 0;         // over all levels
  bool refused = false;       // a bound was hit: the start is returned
};

struct FieldOptions {
  int cells = 8;                    // grid steps along the longer side of the overlap in FIXED, of 40 px at least
  int max_iterations = 15;          // of the last fit
  double epsilon_px = 0.05;         // a fit ends when no control point moves further
  double bend_px = 5.0;             // prior deviation of a second difference of neighbouring control points
  double shift_px = 8.0;            // prior deviation of a displacement
  double samples_per_point = 0.2;   // as in RefineOptions, but within a cell, where fewer neighbours repeat one another
  int min_points = 256;             // an overlap of fewer points of a lattice of 3 px: no field
  double min_gain_nats = 4;         // log-likelihood that held-out points must gain
  double min_displacement_px = 0.4; // root mean square over the overlap; less is not worth a field
  double max_displacement_px = 20;  // a field that moves a point further is refused
  double min_jacobian = 0.3;        // the same for one that shrinks an area further
};

struct FieldRefinement {
  Field field;             // empty: none is supported. Its control points lie in the memory that the caller gave
  double gain_nats = 0;    // log-likelihood that the held-out points gained, as far as they were asked
  double score_before = 0; // correlation over the lattice points without
  double score_after = 0;  // and with the field
  int iterations = 0;      // over all fits
};

// Numbers that the control points of a field may need.
constexpr int field_capacity(const FieldOptions& options) { return 2 * (options.cells + 4) * (options.cells + 4); }

namespace cpu {
// plane, mask: same size, mask 0 or non-zero, plane 0 outside the mask.
void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out);
void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out);
// T_fixed_moving: as refine() leaves it. control: field_capacity() numbers. On a pair that needs no field it stops
// after a third of the work.
void refine_field(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                  const Transform& T_fixed_moving, const FieldOptions& options, double* control, FieldRefinement* out);
// Correlation of the finest levels over the overlap under each of the transforms, on every second pixel of every
// `row_step`th row of MOVING: at kRidgeRowStep the score of refine, and the best single number of quality. 0 where fewer
// than 32 lattice points overlap or one of the maps is flat. out: one a transform.
void ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                       std::span<const Transform> T_fixed_moving, int row_step, RidgeCorrelation* out);
}  // namespace cpu
namespace cuda {
void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out);
void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out);
void refine_field(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                  const Transform& T_fixed_moving, const FieldOptions& options, double* control, FieldRefinement* out);
void ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                       std::span<const Transform> T_fixed_moving, int row_step, RidgeCorrelation* out);
}  // namespace cuda

}  // namespace fastretina
