// Room 3, upsample: class-difference map -> x4 bicubic confidence map.
//
// Half-pixel centres, a = -0.75, taps clamped at the edges: equal to torch.nn.functional.interpolate(scale_factor=4,
// mode="bicubic", align_corners=False) up to rounding. Keys 1981, "Cubic convolution interpolation".
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

constexpr int kStride = 4;  // of the detection head, hence of upsample

namespace cpu {
// difference (h, w) -> confidence (4h, 4w), caller-owned.
void upsample(const Context& context, Workspace& workspace, View<const float> difference, View<float> confidence);
}
namespace cuda {
void upsample(const Context& context, Workspace& workspace, View<const float> difference, View<float> confidence);
}

}  // namespace fastretina
