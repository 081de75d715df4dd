// What the twins of warp() ask of their arguments. Internal.
#pragma once

#include "warp/warp.h"

namespace fastretina {

// Throws InvalidArgument; looks at no pixel and at no parameter of the transform.
void check_warp(const Image& moving, const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid);

}  // namespace fastretina
