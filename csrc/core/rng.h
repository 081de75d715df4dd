// Counter-based random numbers: sample i of stream s under a seed is a pure function of (seed, s, i), so that hypotheses
// can be drawn by any thread, in any order, on either device, and stay the same.
//
// The mixer is SplitMix64's finaliser (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
#pragma once

#include <cstdint>

#include "core/hd.h"

namespace fastretina {

FR_HD std::uint64_t mix64(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

FR_HD std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) {
  return mix64(mix64(mix64(seed) ^ stream) ^ counter);
}

// Uniform integer in [0, n), n <= 2^32, by multiply-shift (bias below n / 2^32).
FR_HD std::uint32_t random_below(std::uint64_t bits, std::uint32_t n) {
  return static_cast<std::uint32_t>(((bits >> 32) * n) >> 32);
}

}  // namespace fastretina
