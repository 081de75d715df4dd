// The steps of the room `image` on the CPU, in order. Internal.
#pragma once

#include <cstdint>

#include "image/image.h"

namespace fastretina::image_steps {

// Everything at network scale that the steps hand on. Rows are padded to image_kernels::kRowPad.
struct Plane {
  View<float> intensity;     // in [0, 1]
  View<std::uint8_t> mask;   // 0 / 1, and 0 in the padding
  View<std::uint64_t> bits;  // the mask, one bit a pixel
};

// Throws InvalidArgument for what no plane can be made of; check_shape does not look at the pixels.
void check_shape(const Image& input, const ImageGeometry& geometry, const ImageOptions& options);
void check_image(const Image& input, const ImageGeometry& geometry, const ImageOptions& options);
void check_options(const ImageOptions& options);

// Steps 1 and 2.
void resize(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
            const ImageOptions& options, View<float> intensity);

// Step 3. The exact order statistic floor(0.95 (n - 1)) of the plane's n values: no interpolation.
float percentile_95(Workspace& workspace, View<const float> intensity);
void field_of_view(Workspace& workspace, const ImageOptions& options, Plane& plane);

// Steps 4 and 5. Returns the mean local deviation.
float normalise(const Context& context, Workspace& workspace, const Plane& plane, const ImageOptions& options,
                const NetworkImage& output);

}  // namespace fastretina::image_steps
