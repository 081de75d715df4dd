// What decides a value between the rooms, once for both sides of the pipeline: pipeline.cpp and pipeline_cuda.cu.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/transform.h"
#include "pipeline.h"

namespace fastretina::pipeline_math {

constexpr int kPolishLevel = 2;  // the first one of polish: the rung has aligned the coarser ones
constexpr double kPolishEpsilon_px = 0.05;

inline RefineOptions polish_options(RefineOptions options) {
  options.first_level = kPolishLevel;
  options.epsilon_px = kPolishEpsilon_px;
  return options;
}

// Do the vessels ask for the quadratic that was refined from the homography?
FR_HD bool asks_for_bend(const Refinement& quadratic, const ModelOptions& options) {
  const bool large = quadratic.shift_px >= options.large_bend_px;
  return quadratic.gain_nats >= (large ? options.large_bend_gain_nats : options.quadratic_gain_nats);
}

// Is a local field to be tried on the answer? On top of a transform that cannot be trusted it would fit whatever is
// there.
inline bool wants_field(const Candidate& best, const ModelOptions& options) {
  const bool trusted = options.choice == TransformChoice::automatic && best.quality.status == Status::ok;
  return best.found && (trusted || options.choice == TransformChoice::dense);
}

inline FieldOptions field_options(FieldOptions options, const ModelOptions& model) {
  const bool asked = model.choice == TransformChoice::dense;
  if (!asked) options.min_gain_nats = std::max(options.min_gain_nats, model.field_gain_nats);
  return options;
}

// Where nothing should fit: a transform shifted aside in every direction, at two distances.
struct Sidelobes {
  static constexpr int kDirections = 6, kCount = 2 * kDirections;
  double dx[kCount], dy[kCount];

  Sidelobes() {
    constexpr double kRings_px[] = {12, 24};
    constexpr double kTurn = 0.52359877559829887308;  // half of the angle between two directions
    for (int i = 0; i < kCount; ++i) {
      const int ring = i / kDirections;
      const double angle = kTurn * (2 * (i % kDirections) + ring);
      dx[i] = kRings_px[ring] * std::cos(angle), dy[i] = kRings_px[ring] * std::sin(angle);
    }
  }
  FR_HD bool shift(const Transform& T, int i, Transform& shifted) const {
    return compose(scaling(1, dx[i], dy[i]), T, shifted);
  }
};
constexpr int kSidelobeRowStep = 8;  // twelve correlations for the price of three

// How far the correlation stands out of what it is there (Bolme et al. 2010). Chance is the more likely the smaller the
// overlap.
FR_HD double peak_to_sidelobe(double peak, const RidgeCorrelation* aside) {
  constexpr double kLeastDeviation = 0.01;  // where twelve of them happen to agree
  constexpr int n = Sidelobes::kCount;
  double sum = 0, square = 0;
  for (int i = 0; i < n; ++i) sum += aside[i].score, square += aside[i].score * aside[i].score;
  const double mean = sum / n, variance = square / n - mean * mean;
  return (peak - mean) / (std::sqrt(variance > 0 ? variance : 0.0) + kLeastDeviation);
}

}  // namespace fastretina::pipeline_math
