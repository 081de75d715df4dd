// Room 8, refine: both images' vessel ridges + a transform -> a sub-pixel transform of the same kind, and its score.
//
// ridges() makes a polarity-free ridge map of a normalised plane: the magnitude of the strongest Hessian curvature across
// a line (Frangi et al. 1998, Lindeberg 1998), same for dark and bright vessels, at several scales, masked.
// refine() maximises the correlation of the two ridge maps (ECC, Evangelidis & Psarakis 2008) over sparse points of
// the MOVING image (ridge tops and their flanks), coarse to fine. It never returns a lower score than it got.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

constexpr int kRidgeLevels = 3;  // coarse to fine: smoothing sigma about 4, 2, 1 px on top of the ridge scale

struct RidgeOptions {
  float sigma_px = 1.8f;  // of the Hessian, network px
  int max_points = 4000;  // sparse points kept for refine
};

// Everything refine needs to know of one image. Caller-owned memory, sizes by ridge_map_sizes().
struct RidgeMap {
  View<float> level[kRidgeLevels];  // level[0] coarsest; all at full network resolution or decimated (see scale)
  int scale[kRidgeLevels] = {1, 1, 1};  // pixels of the plane per pixel of the level
  View<std::uint8_t> mask;
  float* points = nullptr;  // max_points x 3: x, y (plane pixels), strength; by better(strength, row-major index)
  int* count = nullptr;
  int capacity = 0;
};

struct RefineOptions {
  int max_iterations = 30;     // a level
  double epsilon_px = 0.01;    // stop when no corner of the overlap moves further
  double max_shift_px = 20.0;  // a refinement that moves a corner of the overlap further is refused
};

struct Refinement {
  Transform T_fixed_moving;
  double score_before = 0.0;  // correlation of the finest ridge maps over the overlap, in [-1, 1]
  double score_after = 0.0;   // >= score_before
  int iterations = 0;
};

namespace cpu {
void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out);
void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out);
// Correlation of the finest ridge maps over the overlap under T: the score of refine, and the best single number of quality.
// overlap_px: how many MOVING mask pixels land inside the FIXED mask.
double ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                         const Transform& T_fixed_moving, int* overlap_px);
}  // namespace cpu
namespace cuda {
void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out);
void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out);
}  // namespace cuda

}  // namespace fastretina
