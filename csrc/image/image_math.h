// What decides a value in the room `image`; shared by the twins.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/hd.h"

namespace fastretina::image_math {

constexpr int kCell = 4;       // px, side of a cell of the local statistics
constexpr int kBoxRadius = 3;  // cells: the box is 7 x 7
constexpr float kGlobalPart = 0.1f;
constexpr float kFloor = 0.002f;
constexpr int kLanes = 16;  // sums over a row keep 16 partial sums: element x goes to lane x % 16

// --- plane ------------------------------------------------------------------------------------------------------
FR_HD float luma(float r, float g, float b) { return std::fmaf(0.114f, b, std::fmaf(0.587f, g, 0.299f * r)); }

// A green channel whose maximum stays below an eighth of the luma's shows nothing (a red or blue rendering).
FR_HD bool green_is_empty(float max_green, float max_luma) { return 8 * max_green < max_luma; }

// uint16 data of 10, 12 or 14 bits: the smallest such range that holds the maximum is the unit.
FR_HD float u16_range(std::uint16_t maximum) {
  return maximum <= 1023 ? 1023.f : maximum <= 4095 ? 4095.f : maximum <= 16383 ? 16383.f : 65535.f;
}

// Also turns -0 into +0: the order of the bit patterns is then the order of the values.
FR_HD float unit_range(float v) { return v > 0.f ? (v < 1.f ? v : 1.f) : 0.f; }

// --- scale ------------------------------------------------------------------------------------------------------
// Output edge i in input pixels (edges at integers). A ratio of integers, so that exact factors stay exact.
FR_HD double edge(std::int64_t i, std::int64_t longer_side, std::int64_t working_size) {
  return static_cast<double>(i * longer_side) / static_cast<double>(working_size);
}

// Length of input pixel k inside [from, to).
FR_HD double coverage(double from, double to, int k) {
  const double low = from > k ? from : k, high = to < k + 1 ? to : k + 1;
  return high > low ? high - low : 0;
}

// --- normalise --------------------------------------------------------------------------------------------------
FR_HD float lerp(float a, float b, float f) { return std::fmaf(f, b - a, a); }

// Deviation from the sums over a window; `shift` was subtracted from every intensity before squaring.
FR_HD float deviation(float s0, float s1, float s2) {
  const float mean = s1 / s0, variance = s2 / s0 - mean * mean;
  return std::sqrt(variance > 0.f ? variance : 0.f);
}

FR_HD float normalised(float v, float mean, float sd, float offset, float clip) {
  const float n = (v - mean) / (sd + offset);
  return n < -clip ? -clip : (n > clip ? clip : n);
}

}  // namespace fastretina::image_math
