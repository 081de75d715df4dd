// Room 4, nms: confidence map -> key points.
//
// A pixel is a key point if its score exceeds `threshold`, the mask allows it, and it comes first under better() (score
// descending, row-major index ascending) in its (2 radius + 1)^2 window (pixels outside the map do not compete; pixels
// outside the mask do). The max_keypoints best are kept, in that order.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

struct NmsOptions {
  int radius = 4;  // px, 0 ... 255
  int max_keypoints = 1000;
  float threshold = -6.0f;    // of the class difference (0: "vessel" as likely as "background"); low: the best max_keypoints decide
};

namespace cpu {
// confidence: finite, fewer than 2^31 pixels. mask: same size, 0 = no key point here; empty = everywhere.
// out.capacity >= max_keypoints >= 1.
void nms(const Context& context, Workspace& workspace, View<const float> confidence, View<const std::uint8_t> mask,
         const NmsOptions& options, const Keypoints& out);
}
namespace cuda {
void nms(const Context& context, Workspace& workspace, View<const float> confidence, View<const std::uint8_t> mask,
         const NmsOptions& options, const Keypoints& out);
}

}  // namespace fastretina
