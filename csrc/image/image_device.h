// The field of view on the device, as image_steps::field_of_view. Internal.
#pragma once

#include "core/cuda.h"
#include "image/image.h"

namespace fastretina::cuda {

// intensity in [+0, 1] -> mask (0 / 1) of the same size, written into the larger `mask`.
void field_of_view(const Context& context, Workspace& workspace, View<const float> intensity,
                   const ImageOptions& options, View<std::uint8_t> mask);

}  // namespace fastretina::cuda
