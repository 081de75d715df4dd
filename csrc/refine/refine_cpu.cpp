// refine() and ridge_correlation(): the order of things. A level's work is in refine_level_cpu.cpp.
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

constexpr int kRowGrain = 16;

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

double ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                         const Transform& T, int row_step, int* overlap_px) {
  require(row_step >= 1, "row_step", std::to_string(row_step), "1 or more");
  const auto f = finest(fixed), m = finest(moving);
  if (overlap_px != nullptr) *overlap_px = 0;
  Model model;
  const Frame frame = frame_of(moving);
  const TransformKind kind = std::max(T.kind, TransformKind::affine);  // similarity or not: the numbers are the same
  if (f.width < 2 || f.height < 2 || m.empty() || !model_of(T, kind, frame, model)) return 0;

  const Workspace::Frame scratch(workspace);
  const int rows = (m.height + row_step - 1) / row_step;
  double* row_sums = workspace.take<double>(static_cast<std::size_t>(rows * kLatticeSums));
  LatticeJob job{};
  job.fixed = f.data, job.stride = f.stride, job.width = f.width, job.height = f.height, job.moving_width = m.width;
  job.map = float_map(model, 1);
  job.u0 = static_cast<float>(-frame.cx / frame.radius), job.du = static_cast<float>(2 / frame.radius);
  context.parallel_for(rows, kRowGrain, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) {
      LatticeJob row = job;
      row.moving = m.row(row_step * i);
      row.v = static_cast<float>((row_step * i - frame.cy) / frame.radius);
      lattice_row(row, row_sums + i * kLatticeSums);
    }
  });
  double s[kLatticeSums] = {}, sum_y = 0;
  for (int i = 0; i < rows; ++i) {
    for (int k = 0; k < kLatticeSums; ++k) s[k] += row_sums[i * kLatticeSums + k];
    sum_y += row_sums[i * kLatticeSums + kN] * row_step * i;
  }
  return correlation(s, sum_y, T, row_step, overlap_px);
}

void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out) {
  check_refine(fixed, moving, options);
  *out = {};
  out->T_fixed_moving = start;
  int overlap_px = 0;
  out->score_before = out->score_after = ridge_correlation(context, workspace, fixed, moving, start, kRidgeRowStep, &overlap_px);
  const TransformKind kind = refined_kind(start, options);
  Transform result;
  if (!climb(context, workspace, fixed, moving, start, kind, options, result, *out)) {
    out->refused = true;
    out->shift_px = 0;
    return;
  }
  const double score = ridge_correlation(context, workspace, fixed, moving, result, kRidgeRowStep, nullptr);
  if (!(score > out->score_before)) {
    out->shift_px = 0;
    return;
  }
  accept(result, score, overlap_px, options, *out);
}

}  // namespace cpu
}  // namespace fastretina
