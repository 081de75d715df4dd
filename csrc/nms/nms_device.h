// The parts of nms that detect shares on the device. Internal.
#pragma once

#include "core/ranking_device.h"
#include "nms/nms.h"

namespace fastretina::cuda {

// Key points of a stored map, any radius -> list. One launch.
void find_keypoints(const Context& context, View<const float> confidence, View<const std::uint8_t> mask,
                    const NmsOptions& options, const Candidates& list);

// The best of a list -> out. Two launches.
void write_keypoints(const Context& context, Workspace& workspace, const Candidates& list, int map_width,
                     int max_keypoints, const Keypoints& out);

}  // namespace fastretina::cuda
