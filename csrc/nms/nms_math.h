// What decides a key point.
#pragma once

#include "core/hd.h"

namespace fastretina {

// Does a neighbour come before a pixel under better()? `earlier`: its row-major index is smaller.
FR_HD bool suppresses(float neighbour, bool earlier, float score) {
  return earlier ? neighbour >= score : neighbour > score;
}

}  // namespace fastretina
