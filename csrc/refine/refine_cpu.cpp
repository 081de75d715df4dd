// refine() and ridge_correlation(): the order of things. A level's work is in refine_level_cpu.cpp.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/transform.h"
#include "refine/refine.h"
#include "refine/refine_kernels.h"
#include "refine/refine_level.h"
#include "refine/refine_model.h"

namespace fastretina::cpu {
namespace {

using namespace refine_math;
using namespace refine_kernels;

constexpr int kRowGrain = 16;
constexpr int kMinLattice = 32;

View<RidgePixel> finest(const RidgeMap& map) { return map.level[kRidgeLevels - 1]; }

Frame frame_of(const RidgeMap& moving) {
  const auto plane = finest(moving);
  return {plane.width / 2.0, plane.height / 2.0, std::max(std::max(plane.width, plane.height) / 2.0, 1.0)};
}

// The furthest that the start and the result are apart on the corners of the MOVING frame; infinite beyond a pole.
double frame_shift(const Transform& a, const Transform& b, View<const RidgePixel> plane) {
  double most = 0;
  for (const double x : {-0.5, plane.width - 0.5})
    for (const double y : {-0.5, plane.height - 0.5}) {
      const Point pa = apply(a, {x, y}), pb = apply(b, {x, y});
      const double d = std::hypot(pa.x - pb.x, pa.y - pb.y);
      const bool beyond = b.kind == TransformKind::homography && !(b.p[6] * x + b.p[7] * y + b.p[8] > 0);
      most = std::isfinite(d) && !beyond ? std::max(most, d) : 1e30;
    }
  return most;
}

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
    out.shift_px = level.shift(first, model);
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
  const double n = s[kN];
  if (overlap_px != nullptr) *overlap_px = static_cast<int>(2 * row_step * n);
  if (n < kMinLattice) return 0;
  const Turn turn = turn_at(T, {2 * s[kX] / n, sum_y / n});
  const double product =
      s[kFM] - s[kF] * s[kM] / n + turn.m00 * s[kCC] + turn.m01 * s[kCS] + turn.m10 * s[kSC] + turn.m11 * s[kSS];
  const double ff = s[kFF] - s[kF] * s[kF] / n + s[kVF], mm = s[kMM] - s[kM] * s[kM] / n + s[kVM];
  if (!(ff > 1e-6 * n) || !(mm > 1e-6 * n)) return 0;
  return std::clamp(product / std::sqrt(ff * mm), -1.0, 1.0);
}

void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out) {
  check(fixed, "fixed");
  check(moving, "moving");
  check(options);
  *out = {};
  out->T_fixed_moving = start;
  int overlap_px = 0;
  out->score_before = out->score_after = ridge_correlation(context, workspace, fixed, moving, start, kRidgeRowStep, &overlap_px);
  const TransformKind kind = std::max({start.kind, options.kind, TransformKind::similarity});
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
  out->T_fixed_moving = result;
  out->score_after = score;
  const double independent = overlap_px * options.samples_per_point / (kPointStepPx * kPointStepPx);
  out->gain_nats = independent * (misfit(out->score_before) - misfit(score));
}

}  // namespace fastretina::cpu
