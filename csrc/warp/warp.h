// Room 9, warp: image, points or mask + transform -> the same in the FIXED frame, at full resolution.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

enum class Interpolation : int { nearest = 0, linear = 1, cubic = 2 };

struct WarpOptions {
  Interpolation interpolation = Interpolation::linear;
};

// A caller-owned image to write.
struct MutableImage {
  void* data = nullptr;
  int width = 0;
  int height = 0;
  int channels = 1;
  std::ptrdiff_t row_bytes = 0;
  PixelType type = PixelType::u8;
};

namespace cpu {
// Resamples `moving` into the frame of `out` (same type and channels). T_fixed_moving maps MOVING -> FIXED; the room
// inverts it (numerically for the quadratic and the field). valid: out-sized, 1 where the source pixel lies inside `moving`
// (centres within [-1/2, size - 1/2]); elsewhere out is 0. Sizes beyond 32767 px are fine.
void warp(const Context& context, Workspace& workspace, const Image& moving, const Deformation& T_fixed_moving,
          const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid);
}  // namespace cpu
namespace cuda {
void warp(const Context& context, Workspace& workspace, const Image& moving, const Deformation& T_fixed_moving,
          const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid);
}  // namespace cuda

}  // namespace fastretina
