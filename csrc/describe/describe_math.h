// What decides a value in the room `describe`; shared by the twins.
#pragma once

#include <cmath>

#include "core/hd.h"

namespace fastretina::describe_math {

constexpr int kLanes = 16;  // the squares of a row keep 16 partial sums: channel c goes to lane c % 16
constexpr float kSmallestNorm = 1e-12f;

// The four cells around a point along one axis, and the weight of the second.
struct Cells {
  int low, high;
  float fraction;
};

// Cell i is centred on pixel 4 i + 1.5; outside the outermost centres the position is clamped (NaN to the first cell).
FR_HD Cells cells_around(float position_px, int count) {
  const float u = (position_px - 1.5f) * 0.25f;
  const auto last = static_cast<float>(count - 1);
  const float clamped = u > 0.f ? (u < last ? u : last) : 0.f;
  const int low = static_cast<int>(clamped);
  return {low, low + 1 < count ? low + 1 : low, clamped - static_cast<float>(low)};
}

// Weights of the cells (low, low), (high, low), (low, high), (high, high) in (x, y).
struct Weights {
  float a, b, c, d;
};
FR_HD Weights weights_of(float fx, float fy) {
  return {(1.f - fx) * (1.f - fy), fx * (1.f - fy), (1.f - fx) * fy, fx * fy};
}
FR_HD float mix(const Weights& w, float a, float b, float c, float d) {
  return std::fmaf(w.d, d, std::fmaf(w.c, c, std::fmaf(w.b, b, w.a * a)));
}

// The lanes fold in halves: 16 -> 8 -> 4 -> 2 -> 1.
FR_HD float fold(float* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  return lanes[0];
}

// What a row is multiplied with; 0 for a row that has no direction.
FR_HD float inverse_norm(float sum_of_squares) {
  const float norm = std::sqrt(sum_of_squares);
  return norm < kSmallestNorm ? 0.f : 1.f / norm;
}

}  // namespace fastretina::describe_math
