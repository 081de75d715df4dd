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

constexpr float kTolerance = 1e-3f;  // f32 images may leave [0, 1] by that much: rounding of whoever made them

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

// An axis of `in` pixels at the scale working / longer: output i = sum over t < taps of weight_t input[first + t].
struct Axis {
  int in = 0, longer = 1, working = 1;

  FR_HD bool shrinks() const { return working < longer; }
  FR_HD int taps() const {
    const int wanted = shrinks() ? (longer + working - 1) / working + 1 : 2;
    return wanted < in ? wanted : in;
  }
  // -> first; the weights, `stride` elements apart.
  FR_HD int weigh(int i, float* weights, std::ptrdiff_t stride) const {
    const int count = taps();
    if (shrinks()) {
      const double from = edge(i, longer, working), end = edge(i + 1, longer, working), to = end < in ? end : in;
      const int low = static_cast<int>(from) < in - count ? static_cast<int>(from) : in - count;
      for (int t = 0; t < count; ++t) weights[t * stride] = static_cast<float>(coverage(from, to, low + t) / (to - from));
      return low;
    }
    const double position = 0.5 * edge(2 * i + 1, longer, working) - 0.5;
    const double clamped = position < 0 ? 0 : position > in - 1 ? in - 1 : position;
    const int low = static_cast<int>(clamped) < in - count ? static_cast<int>(clamped) : in - count;
    const auto f = static_cast<float>(clamped - low);
    weights[0] = count > 1 ? 1.f - f : 1.f;
    if (count > 1) weights[stride] = f;
    return low;
  }
};

// --- field of view ----------------------------------------------------------------------------------------------
// What a camera leaves around a round field is not always black: compression and glare lift it. Where the brightest of the
// corners is clearly darker than the dark of the middle, it is surround.
constexpr int kCornerPart = 16, kMiddlePart = 4, kMiddleStep = 4;  // sides are that part of the frame; every kMiddleStep-th pixel
constexpr int kBrightPercent = 95, kCornerPercent = 99, kMiddlePercent = 10;

FR_HD std::int64_t rank_of(std::int64_t n, int percent) { return (n - 1) * percent / 100; }  // in sorted order

// What is below is dark, given the order statistics of all pixels, of the corners and of the middle.
FR_HD float dark_threshold(float dark_fraction, float bright, float corner, float middle) {
  const float dark = dark_fraction * bright, surround = 1.5f * corner;
  return surround < middle && surround > dark ? surround : dark;
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
