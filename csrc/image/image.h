// Room 1, image: any array -> one locally normalised float plane at network scale, and its field-of-view mask.
//
//   1. plane        gray as it is; green of an RGB image (luma 0.299 R + 0.587 G + 0.114 B where green shows nothing)
//   2. scale        longer side -> working_size, area-averaged when shrinking, bilinear when enlarging;
//                   x' = (x + 1/2) s - 1/2 with one s for both axes
//   3. field of view  pixels below dark_fraction x the 95th percentile that hang together (4-connected) with the frame
//                   are outside; what is left is eroded by erode_px (the frame itself does not erode)
//   4. normalise    (I - local mean) / (local deviation + 0.1 x its global mean + 0.002), clipped, 0 outside the mask;
//                   local statistics over the mask only: sums on 4 x 4-pixel cells, two 7 x 7-cell box passes, bilinear
//                   back to pixels (the same definition as python/fastretina/training/normalise.py)
//   5. pad          zeros at the right and at the bottom up to `multiple`; the mask is 0 there
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

struct ImageOptions {
  int working_size = 640;  // longer side at network scale, px
  int multiple = 8;        // the network's: plane sizes are padded to it
  float dark_fraction = 0.05f;
  int erode_px = 3;
  float clip = 4.0f;
};

struct ImageGeometry {
  Size input;
  Size content;        // of the resized image
  Size plane;          // content padded to the network's multiple
  double scale = 1.0;  // network px per input px; T_image_input: x' = (x + 1/2) scale - 1/2
};

// Caller-owned output. plane and mask are plane-sized, gray is content-sized.
struct NetworkImage {
  View<float> plane;        // normalised, 0 outside the mask
  View<std::uint8_t> mask;  // 1 inside the field of view
  View<float> gray;         // the resized intensities before normalisation (step 2); empty: not wanted
  float* contrast = nullptr;  // 1: mean local deviation over the field of view, of intensities in [0, 1] (0: no content)
};

ImageGeometry image_geometry(Size input, const ImageOptions& options);

namespace cpu {
void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output);
}
namespace cuda {
void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output);
}

}  // namespace fastretina
