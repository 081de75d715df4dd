// What the twins of ridges() ask of their arguments. Internal.
#pragma once

#include "refine/refine.h"

namespace fastretina {

// Throws InvalidArgument unless sizes and options make sense.
void check_ridges(View<const float> plane, View<const std::uint8_t> mask, const RidgeOptions& options,
                  const RidgeMap& out);

}  // namespace fastretina
