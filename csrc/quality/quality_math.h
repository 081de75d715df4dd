// What decides a value in quality: the local shape of a map, and the confidence.
#pragma once

#include <cmath>

#include "core/transform.h"

namespace fastretina::quality_math {

// The confidence: 1 / (1 + exp(-(kBias + sum of kWeight x feature))). Every weight has the sign its feature must have. Fitted to
// 1700 registrations of training images with known truth, half of them of two different eyes (docs/TRAINING.md, Confidence).
constexpr int kFeatures = 8;
constexpr double kBias = -19.9873;
constexpr double kWeight[kFeatures] = {12.6993, 3.6869, 1.63623, 2.42698, -0.266695, 5.1154, 0, 0};

// ridge correlation, log(1 + inliers), inliers / matches, overlap, rms px of the inliers, coverage,
// log(1 + peak to sidelobe), similarity of the inliers
struct Features {
  double value[kFeatures];
};

inline double confidence(const Features& features) {
  double logit = kBias;
  for (int i = 0; i < kFeatures; ++i) logit += kWeight[i] * features.value[i];
  return 1 / (1 + std::exp(-logit));
}

// Ratio of the singular values of a 2 x 2 map, >= 1; infinite where it is singular.
FR_HD double anisotropy(const Jacobian& j) {
  const double e = 0.5 * (j.a + j.d), f = 0.5 * (j.a - j.d), g = 0.5 * (j.c + j.b), h = 0.5 * (j.c - j.b);
  const double q = std::sqrt(e * e + h * h), r = std::sqrt(f * f + g * g);
  const double small = std::fabs(q - r);
  return small > 0 ? (q + r) / small : HUGE_VAL;
}

// Degrees in (-180, 180]. A map that mirrors is this rotation after x -> -x.
FR_HD double rotation_deg(const Jacobian& j) {
  constexpr double kDegrees = 57.295779513082320876798;
  const double angle = j.determinant() < 0 ? std::atan2(-(j.b + j.c), j.d - j.a) : std::atan2(j.c - j.b, j.a + j.d);
  return kDegrees * angle;
}

}  // namespace fastretina::quality_math
