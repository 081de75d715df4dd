// What decides a confidence value: the taps of a phase, their weights and the order of the sum.
//
// Output 4 i + phase lies at source coordinate i + (phase - 1.5) / 4. Phases 0 and 1 lie before cell i and are summed
// as the mirror images of phases 3 and 2, so that flipping the input flips the output bit for bit. The sum goes from
// the outer taps (small weights) to the nearest one; along y first come the rows that were expanded along x.
#pragma once

#include <cmath>

#include "core/hd.h"

namespace fastretina {

// Keys' cubic with a = -0.75 at distances 1 + t, t, 1 - t, 2 - t. Every weight is a short dyadic fraction: exact in
// f32.
struct CubicWeights {
  float w[4];
};

constexpr CubicWeights cubic_weights(float t) {
  constexpr float a = -0.75f;
  const float s = 1.0f - t;
  return {{a * t * s * s, ((a + 2) * t - (a + 3)) * t * t + 1, ((a + 2) * s - (a + 3)) * s * s + 1, a * s * t * t}};
}

constexpr CubicWeights kNearPhase = cubic_weights(0.125f);  // phases 1 and 2
constexpr CubicWeights kFarPhase = cubic_weights(0.375f);   // phases 0 and 3

FR_HD constexpr CubicWeights phase_weights(int phase) {
  return phase == 0 || phase == 3 ? cubic_weights(0.375f) : cubic_weights(0.125f);
}

// The source cell of tap k in [0, 4), relative to cell i; -2 ... 2. Indices past the edge are clamped to it.
FR_HD constexpr int phase_tap(int phase, int k) { return phase < 2 ? 1 - k : k - 1; }

FR_HD float cubic_sum(const CubicWeights& c, float v0, float v1, float v2, float v3) {
  return std::fmaf(c.w[1], v1, std::fmaf(c.w[2], v2, std::fmaf(c.w[3], v3, c.w[0] * v0)));
}

}  // namespace fastretina
