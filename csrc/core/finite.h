// Whether every number of an array is one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace fastretina {

// No early exit: the compiler turns the loop into a few vector instructions, and what is not finite may be slow.
inline bool all_finite(const float* data, std::ptrdiff_t count) {
  constexpr std::uint32_t kExponent = 0x7F80'0000u;
  std::uint32_t highest = 0;
  for (std::ptrdiff_t i = 0; i < count; ++i)
    highest = std::max(highest, std::bit_cast<std::uint32_t>(data[i]) & kExponent);
  return highest != kExponent;
}

}  // namespace fastretina
