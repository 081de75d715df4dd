// The pairs as `estimate` and `upgrade` work on them, and what both ask of a finished model.
#pragma once

#include "core/workspace.h"
#include "estimate/estimate.h"
#include "estimate/fit.h"

namespace fastretina::estimating {

struct Problem {
  PairArrays scattered;           // golden-ratio order: every stretch of it is a fair sample of all pairs
  PairArrays ordered;             // the caller's order
  const Pair* sampled = nullptr;  // the caller's order, for the sampler
  Coordinates coordinates;
  double fixed_spread_sq = 0;  // mean squared distance from the FIXED centre, px^2
  int count = 0;
};

Problem prepare(Workspace& workspace, const PointPairs& pairs);

// Within a model's Jacobian the sign and size of its determinant.
double area_ratio(const Model& model, double x, double y);  // FIXED px^2 per (room unit)^2

// Local scale at (x, y) within [min_scale, max_scale], and one handedness, the allowed one, at every pair within
// sqrt(squared).
struct Plausible {
  double min_scale = 0, max_scale = 0;
  bool allow_mirror = false;
};
bool plausible(const Problem& problem, const Model& model, const Moments& moments, double squared,
               const Plausible& rules);

// Up to `steps` reweighted fits on all pairs, until the map stands still. Returns the moments of the last step.
Moments polish(const Kernels& kernel, const Problem& problem, const FitRules& rules, double squared, int steps,
               Model& model, Certainty* certainty);

// Counts, cost, rms, coverage and flags of a finished map, from the caller's points in double.
void report(const PointPairs& pairs, const Transform& transform, double threshold_px, Estimate* out,
            std::uint8_t* inlier);

}  // namespace fastretina::estimating
