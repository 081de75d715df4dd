// A registration as Python gets it.
#pragma once

#include "array.h"
#include "pipeline.h"

namespace fastretina::bindings {

py::dict to_python(const Registration& result);

// Key points of an image in the caller's pixels, best first.
py::array_t<float> keypoints_of(const Transform& T_network_input, const Keypoints& keypoints);

// The class-difference map where it shows the image, one value a stride-4 cell.
py::array_t<float> heatmap_of(View<const float> difference, Size content);

}  // namespace fastretina::bindings
