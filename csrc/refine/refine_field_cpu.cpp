// refine_field(): the order of things. A fit's work is in field_fit_cpu.cpp.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/field.h"
#include "refine/field_fit.h"
#include "refine/refine_check.h"

namespace fastretina {

void check_field(const FieldOptions& o) {
  const auto positive = [](double value, const char* name) {
    if (!(value > 0)) throw InvalidArgument(name, std::to_string(value), "a positive number");
  };
  require(o.cells >= 1 && o.cells <= 64, "cells", std::to_string(o.cells), "a value from 1 to 64");
  require(o.max_iterations >= 0, "max_iterations", std::to_string(o.max_iterations), "0 or more");
  require(o.min_points >= 1, "min_points", std::to_string(o.min_points), "1 or more");
  require(o.epsilon_px >= 0, "epsilon_px", std::to_string(o.epsilon_px), "0 or more");
  require(o.min_displacement_px >= 0, "min_displacement_px", std::to_string(o.min_displacement_px), "0 or more");
  positive(o.bend_px, "bend_px");
  positive(o.shift_px, "shift_px");
  positive(o.samples_per_point, "samples_per_point");
  positive(o.max_displacement_px, "max_displacement_px");
  positive(o.min_jacobian, "min_jacobian");
  require(std::isfinite(o.min_gain_nats), "min_gain_nats", std::to_string(o.min_gain_nats), "a finite number");
}

namespace cpu {
namespace {

using namespace field_math;

// Do points that had no part in a fit agree better under it? One half of the chessboard is asked about the first step of
// the fit to the other on a coarse lattice, which nearly always settles it; then each about the fit to the other.
bool supported(FieldFit& fit, const Field& field, const Field& flat, double* control, const FieldOptions& options,
               FieldRefinement& out) {
  const auto gain = [&](Fold fitted, Fold asked, int iterations) {
    std::copy_n(flat.control, 2 * field.columns * field.rows, control);
    fit.choose(field, fitted);
    out.iterations += fit.run(field, control, iterations);
    fit.choose(field, asked);
    return fit.log_likelihood(field) - fit.log_likelihood(flat);
  };
  out.gain_nats = gain(Fold::even, Fold::odd, 1);
  if (out.gain_nats < options.min_gain_nats / 3 - kCoarseDoubt_nats) return false;
  fit.survey(kHalvesPx);
  out.gain_nats = gain(Fold::even, Fold::odd, kAskedIterations) + gain(Fold::odd, Fold::even, kAskedIterations);
  return out.gain_nats >= options.min_gain_nats;
}

}  // namespace

void refine_field(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                  const Transform& T_fixed_moving, const FieldOptions& options, double* control, FieldRefinement* out) {
  check_field(options);
  *out = {};
  for (const RidgeMap* map : {&fixed, &moving}) {
    const View<const RidgePixel> finest = map->level[kRidgeLevels - 1];
    if (std::min(finest.width, finest.height) < 2) return;
  }
  const Workspace::Frame scratch(workspace);
  FieldFit fit(context, workspace, fixed, moving, T_fixed_moving, options);
  if (!enough(fit.survey(kCoarsePx), kCoarsePx, options.min_points)) return;
  const Field field = fit.grid(control);
  Field flat = field;
  const int n = 2 * field.columns * field.rows;
  double* zeros = workspace.take<double>(static_cast<std::size_t>(n));
  std::fill_n(zeros, n, 0.0);
  flat.control = zeros;
  if (!supported(fit, field, flat, control, options, *out)) return;

  std::copy_n(zeros, n, control);
  fit.survey(kFinestPx);
  fit.choose(field, Fold::all);
  out->iterations += fit.run(field, control, options.max_iterations);
  out->score_before = fit.correlation(flat);
  out->score_after = fit.correlation(field);
  double rms = 0, most = 0;
  fit.reach(field, rms, most);
  if (out->score_after > out->score_before && rms >= options.min_displacement_px && most <= options.max_displacement_px &&
      least_jacobian(field) >= options.min_jacobian)
    out->field = field;
}

}  // namespace cpu
}  // namespace fastretina
