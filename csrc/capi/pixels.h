// The C structs of an image -> the core's. What depends on the values of pixels, and on the smallest side, the rooms
// check.
#pragma once

#include "capi/fastretina.h"
#include "warp/warp.h"

namespace fastretina::capi {

// Throw InvalidArgument that names `argument`.
Image pixels_of(const fastretina_image* image, const char* argument);
MutableImage pixels_of(const fastretina_mutable_image* image, const char* argument);

}  // namespace fastretina::capi
