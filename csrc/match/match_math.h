// What decides a value in `match`: how a row is rounded, when a second best is too close, when a point is near.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/hd.h"

namespace fastretina {

// Elements below this count as zero in bf16. Products of the others, and every partial sum of them, are multiples of
// 2^-114: no intermediate is ever subnormal, so instructions that flush subnormals (VDPBF16PS) give what fmaf gives.
constexpr float kBf16Smallest = 0x1p-50f;

// The upper half of the float nearest to x, ties to even.
FR_HD std::uint32_t bf16_bits(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(std::fabs(x) < kBf16Smallest ? 0.0f : x);
  return (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
}

FR_HD float bf16_round(float x) { return std::bit_cast<float>(bf16_bits(x) << 16); }

// The longest row of a set, and the largest distance of a row a from its bf16 rounding a'.
struct Bf16Spread {
  float norm = 0.0f, residual = 0.0f;
};

// Screening: how far an f32 winner's bf16 score may lie below the best bf16 score. With N, R of the fixed set, M, S of
// the moving set, s the f32 chain and s' the bf16 chain of a pair:
//   |a.b - a'.b'| = |(a - a').b + a'.(b - b')| <= R M + (N + R) S            (Cauchy-Schwarz, |a'| <= N + R)
//   |s - a.b|, |s' - a'.b'| <= g (N + R)(M + S),  g = D u / (1 - D u),  u = 2^-24  (a chain of D fmas)
// so |s - s'| <= E, the sum of these; and with w the f32 winner, t the bf16 winner:
//   s'(w) >= s(w) - E >= s(t) - E >= s'(t) - 2 E
// Twice g of D + 8 steps covers the rounding of N, R, M, S (sums of D squares) and of `best - margin`; 2^-40 covers
// what underflows. NaN or infinity if a row holds one.
FR_HD float screening_margin(int dims, Bf16Spread fixed, Bf16Spread moving) {
  const double n = fixed.norm, r = fixed.residual, m = moving.norm, s = moving.residual;
  const double g = (dims + 8) * 0x1p-23;
  return static_cast<float>(2.0 * (1.0 + g) * (r * m + (n + r) * s + 2.0 * g * (n + r) * (m + s)) + 0x1p-40);
}

constexpr float kI8Scale = 127.0f;

// An integer in [-127, 127], ties to even. Rows are unit, so the clamp only catches rounding.
FR_HD float i8_round(float x) { return std::fmin(std::fmax(std::rint(kI8Scale * x), -kI8Scale), kI8Scale); }

// Sums of unit rows stay far below 2^24, so the float is the exact integer.
FR_HD float i8_score(float sum) { return sum / (kI8Scale * kI8Scale); }

// Lowe's test on the distances sqrt(2 - 2 s) of unit rows, squared. Strict, so that two equally good answers never
// pass, not even at distance zero. Without a second (-infinity) the best passes.
FR_HD bool passes_ratio(float best, float second, float ratio) {
  const float a = std::fmax(1.0f - best, 0.0f);
  const float b = std::fmax(1.0f - second, 0.0f);
  return a < ratio * ratio * b;
}

FR_HD bool is_near(double ax, double ay, double bx, double by, double radius) {
  const double dx = ax - bx, dy = ay - by;
  return dx * dx + dy * dy <= radius * radius;  // false for NaN
}

// Ascending keys are descending scores: the sign-magnitude order of floats, turned round. Finite scores only.
FR_HD std::uint32_t descending_key(float score) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 and +0 are one score
  return (u & 0x80000000u) ? u : ~u & 0x7FFFFFFFu;
}

}  // namespace fastretina
