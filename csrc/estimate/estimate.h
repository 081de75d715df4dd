// Room 7, estimate: point pairs -> similarity, affine, homography or quadratic (12 parameters).
//
// estimate() is a robust fit from scratch: deterministic RANSAC (Fischler & Bolles 1981) with the truncated-quadratic
// score (MSAC, Torr & Zisserman 2000), guided sampling when pairs are score-sorted (in the spirit of PROSAC, Chum &
// Matas 2005), local optimisation (Chum, Matas & Kittler 2003), degeneracy and orientation checks. Homographies and
// quadratics are grown from affine proposals of three pairs (estimate_math.h says why and where not). Samples come from
// the counter-based generator and scores are integers, so the answer depends on the pairs, the options and the seed
// only. upgrade() starts from a transform known to be roughly right and asks whether a higher model explains clearly
// more without straying where no pairs hold it.
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

struct EstimateOptions {
  TransformKind kind = TransformKind::similarity;
  double threshold_px = 3.0;  // inlier threshold in the FIXED image
  double confidence = 0.999;  // of having drawn an all-inlier sample
  int max_iterations = 100000;
  std::uint64_t seed = 0;
  bool sorted = true;         // pairs are ordered best first: sample from the top first
  bool allow_mirror = false;  // accept maps that reverse orientation
  double min_scale = 0.2;     // of the map's local scale (square root of |determinant|) at the inliers' centroid
  double max_scale = 5.0;
};

struct UpgradeOptions {
  TransformKind max_kind = TransformKind::quadratic;
  double threshold_px = 3.0;
  // A higher model must lower the penalised robust cost per pair by this share, on pairs that cover this much of the
  // frame.
  double min_gain = 0.05;
};

struct Estimate {
  Transform T_fixed_moving;
  bool found = false;
  int inliers = 0;
  int iterations = 0;     // hypotheses drawn
  double cost = 0.0;      // MSAC: sum of min(residual^2, threshold^2), px^2
  double rms_px = 0.0;    // of the inliers
  double coverage = 0.0;  // share of the occupied FIXED bounding grid (8 x 8 over the pairs' frame) holding inliers
};

namespace cpu {
// At most 2^20 pairs are looked at, the first ones. inlier: *count flags (1 = within the threshold), or NULL. Fewer
// pairs than the model needs: found = false.
void estimate(const Context& context, Workspace& workspace, const PointPairs& pairs, const EstimateOptions& options,
              Estimate* out, std::uint8_t* inlier);
// start: e.g. the similarity. Tries affine, homography, quadratic up to max_kind by iterated weighted fits; returns the
// simplest model that none explains clearly better. `fixed` and `moving` are the frames, for coverage and plausibility.
void upgrade(const Context& context, Workspace& workspace, const PointPairs& pairs, const Transform& start, Size fixed,
             Size moving, const UpgradeOptions& options, Estimate* out, std::uint8_t* inlier);
}  // namespace cpu
namespace cuda {
void estimate(const Context& context, Workspace& workspace, const PointPairs& pairs, const EstimateOptions& options,
              Estimate* out, std::uint8_t* inlier);
void upgrade(const Context& context, Workspace& workspace, const PointPairs& pairs, const Transform& start, Size fixed,
             Size moving, const UpgradeOptions& options, Estimate* out, std::uint8_t* inlier);
}  // namespace cuda

}  // namespace fastretina
