// Room 5, describe: dense descriptors + key points -> unit rows (bilinear, then L2).
//
// Cell i of the stride-4 map is centred on pixel 4i + 1.5; samples are clamped to the outermost cell centres. A row of
// norm < 1e-12 stays zero. Any memory order gives the same bits; channels innermost (stride_c == 1) is about four times
// faster.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

// A dense map in any memory order: element (c, y, x) at data[c * stride_c + y * stride_y + x * stride_x].
struct DenseMap {
  const float* data = nullptr;
  int dims = 0;
  int height = 0;
  int width = 0;
  std::ptrdiff_t stride_c = 0;
  std::ptrdiff_t stride_y = 0;
  std::ptrdiff_t stride_x = 0;
};

namespace cpu {
// rows: keypoints.capacity x map.dims, caller-owned; rows past the count are left alone.
void describe(const Context& context, Workspace& workspace, const DenseMap& map, const Keypoints& keypoints, float* rows);
}
namespace cuda {
void describe(const Context& context, Workspace& workspace, const DenseMap& map, const Keypoints& keypoints, float* rows);
}

}  // namespace fastretina
