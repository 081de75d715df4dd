// The loops over all pairs, compiled for every instruction set and chosen at run time; same bits from each.
#pragma once

#include "estimate/estimate_math.h"

namespace fastretina::estimating {

// Pairs as parallel arrays, in a scattered order, in the room's coordinates; padded to kPairPadding with pairs that
// nothing explains and that weigh nothing. Weights are in [0, 1].
inline constexpr int kPairPadding = 16;
struct PairArrays {
  float *x = nullptr, *y = nullptr, *u = nullptr, *v = nullptr, *weight = nullptr;
  int count = 0;
  FR_HD int padded() const { return (count + kPairPadding - 1) / kPairPadding * kPairPadding; }
};

// A map in double, for fits.
struct Model {
  Form form = Form::affine;
  double p[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
};

// Weighted sums for one normal equation around `model`; which sums, see the form's adder in kernels_body.h.
inline constexpr int kMoments = 27;
inline constexpr int kCheck = 128;  // pairs between looks at `enough`
struct Moments {
  double sum[kMoments] = {};
  double inliers = 0;
};

struct Kernels {
  // How many of the pairs [begin, end), multiples of kPairPadding, are met within sqrt(squared).
  int (*hits)(const PairArrays&, const Hypothesis&, float squared, int begin, int end);
  // Sum over all pairs of trunc(weight max(0, kGainUnit (1 - residual^2 / squared))): MSAC as an exact integer.
  std::int64_t (*gain)(const PairArrays&, const Hypothesis&, float squared);
  // Biweight (1 - residual^2 / squared)^2 moments over all pairs in order, until `enough` lie inside.
  void (*moments)(const PairArrays&, const Model&, double squared, double enough, Moments* out);
};

const Kernels& kernels();  // for simd_level()

}  // namespace fastretina::estimating
