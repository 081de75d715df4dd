// The one order of the house: score descending, then index ascending. It is total on finite scores, so "the best"
// never depends on who looks first.
#pragma once

#include <cstdint>

#include "core/hd.h"

namespace fastretina {

FR_HD bool better(float score_a, std::int64_t index_a, float score_b, std::int64_t index_b) {
  return score_a > score_b || (score_a == score_b && index_a < index_b);
}

}  // namespace fastretina
