// detect = upsample + nms in one pass over the small map; the big confidence map is never stored.
// Equal bit for bit to the two rooms run one after the other.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"
#include "nms/nms.h"

namespace fastretina {

namespace cpu {
// difference (h, w); mask (4h, 4w) or empty; key points in pixels of the (4h, 4w) map. out.capacity >= max_keypoints.
void detect(const Context& context, Workspace& workspace, View<const float> difference, View<const std::uint8_t> mask,
            const NmsOptions& options, const Keypoints& out);
}
namespace cuda {
void detect(const Context& context, Workspace& workspace, View<const float> difference, View<const std::uint8_t> mask,
            const NmsOptions& options, const Keypoints& out);
}

}  // namespace fastretina
