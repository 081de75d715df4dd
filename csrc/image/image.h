// Room 1, image: any array -> one locally normalised float plane at network scale, and its field-of-view mask.
//
//   1. plane        gray as it is; green of an RGB image, or luma 0.299 R + 0.587 G + 0.114 B where green shows nothing
//                   (its maximum is below 1/8 of the luma's). Intensities in [0, 1]: uint8 / 255, uint16 / the smallest
//                   of 1023, 4095, 16383, 65535 that holds the image's maximum, float32 as it is
//   2. scale        longer side -> working_size, area-averaged when shrinking, bilinear when enlarging;
//                   x' = (x + 1/2) s - 1/2 with one s for both axes
//   3. field of view  pixels below dark_fraction x the 95th percentile (the sorted plane's element floor(0.95 (n - 1))),
//                   or below 1.5 x the 99th percentile of the corners (squares of 1/16 of the shorter side) if that is
//                   below the 10th percentile of the middle (half of each side, every fourth pixel of it): those
//                   that hang together (4-connected) with the frame are outside; what is left is eroded by erode_px
//                   (the frame itself does not erode)
//   4. normalise    (I - local mean) / (local deviation + 0.1 x its global mean + 0.002), clipped, 0 outside the mask;
//                   local statistics over the mask only: sums on 4 x 4-pixel cells, two 7 x 7-cell box passes, bilinear
//                   back to pixels (the same definition as python/fastretina/training/normalise.py)
//   5. pad          zeros at the right and at the bottom up to `multiple`; the mask is 0 there
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

constexpr int kSmallestSidePx = 64;     // of an image, and of the working size
constexpr int kLargestSidePx = 16384;  // of the working size

struct ImageOptions {
  int working_size = 480;  // longer side at network scale, px
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
  View<float> plane;          // normalised, 0 outside the mask
  View<std::uint8_t> mask;    // 1 inside the field of view
  View<float> gray;           // the resized intensities before normalisation (step 2); empty: not wanted
  float* contrast = nullptr;  // 1: mean local deviation over the field of view, in intensities (0: no content)
};

// Throws InvalidArgument for a shorter side below 64 px or an option out of range.
ImageGeometry image_geometry(Size input, const ImageOptions& options);

namespace cpu {
// float32 images must be finite and within [-0.001, 1.001] (InvalidArgument; values are clamped to [0, 1]).
// Scratch is a few rows of the input and about ten planes at network scale.
void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output);
// Steps 1 and 2 alone: the intensities, content-sized.
void gray(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
          const ImageOptions& options, View<float> output);
}  // namespace cpu
namespace cuda {
void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output);
void gray(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
          const ImageOptions& options, View<float> output);
}

}  // namespace fastretina
