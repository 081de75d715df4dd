// Two class maps -> the class-difference map that the rooms read: for every engine the same subtraction.
#pragma once

#include <cstddef>
#include <vector>

#include "core/error.h"
#include "core/finite.h"

namespace fastretina {

// maps: vessel logits, then background logits, `cells` each. Throws EngineError where they are not finite.
inline void class_difference(const float* maps, std::size_t cells, std::vector<float>& difference) {
  difference.resize(cells);
  for (std::size_t i = 0; i < cells; ++i) difference[i] = maps[i] - maps[cells + i];
  if (!all_finite(difference.data(), static_cast<std::ptrdiff_t>(cells)))
    throw EngineError("engine output 0 (class maps): got NaN or infinity, expected finite logits");
}

}  // namespace fastretina
