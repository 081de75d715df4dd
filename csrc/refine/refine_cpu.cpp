// refine(): the order of things. A level's work is in refine_level_cpu.cpp.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/transform.h"
#include "refine/refine.h"
#include "refine/refine_check.h"
#include "refine/refine_kernels.h"
#include "refine/refine_level.h"
#include "refine/refine_model.h"

namespace fastretina {
namespace cpu {
namespace {

using namespace refine_math;
using namespace refine_kernels;

View<RidgePixel> finest(const RidgeMap& map) { return map.level[kRidgeLevels - 1]; }

// false: a bound was hit, or there is nothing to refine on.
bool climb(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
           const Transform& start, TransformKind kind, const RefineOptions& options, Transform& result,
           Refinement& out) {
  Model model;
  const Frame frame = frame_of(moving);
  if (!model_of(start, kind, frame, model)) return false;
  const Model first = model;
  double furthest = 0;
  for (int k = options.first_level; k < kRidgeLevels; ++k) {
    const View<RidgePixel>&f = fixed.level[k], &m = moving.level[k];
    if (std::min({f.width, f.height, m.width, m.height}) < 2) {
      if (k == kRidgeLevels - 1) return false;
      continue;
    }
    const Workspace::Frame scratch(workspace);
    Level level(context, workspace, fixed, moving, k, options, first);
    if (level.choose(fixed, moving, model) < std::max(options.min_points, kLanes)) return false;
    out.iterations += level.run(model);
    furthest = level.reach(first, model);
    if (k == kRidgeLevels - 1) out.shift_px = level.shift(first, model);
  }
  result = transform_of(model);
  return furthest <= options.max_shift_px && frame_shift(start, result, finest(moving)) <= options.max_frame_shift_px;
}

void check(const RefineOptions& options) {
  const auto at_least_0 = [](double value, const char* name) {
    if (!(value >= 0)) throw InvalidArgument(name, std::to_string(value), "0 or more");
  };
  at_least_0(options.max_iterations, "max_iterations");
  at_least_0(options.epsilon_px, "epsilon_px");
  at_least_0(options.max_shift_px, "max_shift_px");
  at_least_0(options.max_frame_shift_px, "max_frame_shift_px");
  at_least_0(options.samples_per_point, "samples_per_point");
  at_least_0(options.min_points, "min_points");
  require(options.first_level >= 0 && options.first_level < kRidgeLevels, "first_level",
          std::to_string(options.first_level), "0 (the coarsest) to 3");
  if (!(options.bend_px > 0)) throw InvalidArgument("bend_px", std::to_string(options.bend_px), "a positive length");
}

void check(const RidgeMap& map, const char* argument) {
  for (int k = 0; k < kRidgeLevels; ++k) {
    const auto plane = finest(map);
    const Size want = ridge_level_size({plane.width, plane.height}, k);
    require(map.level[k].width == want.width && map.level[k].height == want.height, argument, "levels of other sizes",
            "what ridges() made");
  }
}

}  // namespace
}  // namespace cpu

void check_refine(const RidgeMap& fixed, const RidgeMap& moving, const RefineOptions& options) {
  cpu::check(fixed, "fixed");
  cpu::check(moving, "moving");
  cpu::check(options);
}

namespace cpu {

void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out) {
  check_refine(fixed, moving, options);
  *out = {};
  out->T_fixed_moving = start;
  RidgeCorrelation before, after;
  ridge_correlation(context, workspace, fixed, moving, {&start, 1}, kRidgeRowStep, &before);
  out->score_before = out->score_after = before.score;
  const TransformKind kind = refined_kind(start, options);
  Transform result;
  if (!climb(context, workspace, fixed, moving, start, kind, options, result, *out)) {
    out->refused = true;
    out->shift_px = 0;
    return;
  }
  ridge_correlation(context, workspace, fixed, moving, {&result, 1}, kRidgeRowStep, &after);
  if (!(after.score > before.score)) {
    out->shift_px = 0;
    return;
  }
  accept(result, after.score, before.overlap_px, options, *out);
}

}  // namespace cpu
}  // namespace fastretina
