// What the twins of refine() share besides the climb: arguments, the frame, the correlation's last step. Internal.
#pragma once

#include "core/transform.h"
#include "refine/refine.h"
#include "refine/refine_climb.h"

namespace fastretina {

// Throws InvalidArgument.
void check_refine(const RidgeMap& fixed, const RidgeMap& moving, const RefineOptions& options);
void check_correlation(int row_step);
void check_field(const FieldOptions& options);

namespace refine_math {

FR_HD Frame frame_of(const RidgeMap& moving) {
  const View<RidgePixel> plane = moving.level[kRidgeLevels - 1];
  return {plane.width / 2.0, plane.height / 2.0, std::fmax(std::fmax(plane.width, plane.height) / 2.0, 1.0)};
}

FR_HD TransformKind refined_kind(const Transform& start, const RefineOptions& options) {
  const TransformKind asked = start.kind > options.kind ? start.kind : options.kind;
  return asked > TransformKind::similarity ? asked : TransformKind::similarity;
}

// The furthest that the start and the result are apart on the corners of the MOVING frame; infinite beyond a pole.
FR_HD double frame_shift(const Transform& a, const Transform& b, const View<const RidgePixel>& plane) {
  double most = 0;
  for (int corner = 0; corner < 4; ++corner) {
    const double x = corner < 2 ? -0.5 : plane.width - 0.5, y = corner % 2 ? plane.height - 0.5 : -0.5;
    const Point pa = apply(a, {x, y}), pb = apply(b, {x, y});
    const double d = std::hypot(pa.x - pb.x, pa.y - pb.y);
    const bool beyond = b.kind == TransformKind::homography && !(b.p[6] * x + b.p[7] * y + b.p[8] > 0);
    most = std::isfinite(d) && !beyond ? (d > most ? d : most) : 1e30;
  }
  return most;
}

// What the rows of a lattice share. Nothing to add up: moving_width is 0.
FR_HD refine_kernels::LatticeJob lattice_job(const RidgeMap& fixed, const RidgeMap& moving, const Transform& T) {
  const View<RidgePixel> f = fixed.level[kRidgeLevels - 1], m = moving.level[kRidgeLevels - 1];
  const Frame frame = frame_of(moving);
  const TransformKind kind = T.kind > TransformKind::affine ? T.kind : TransformKind::affine;  // holds a similarity
  Model model;
  refine_kernels::LatticeJob job{};
  if (f.width < 2 || f.height < 2 || m.empty() || !model_of(T, kind, frame, model)) return job;
  job.fixed = f.data, job.stride = f.stride, job.width = f.width, job.height = f.height, job.moving_width = m.width;
  job.map = float_map(model, 1);
  job.u0 = static_cast<float>(-frame.cx / frame.radius), job.du = static_cast<float>(2 / frame.radius);
  return job;
}

FR_HD float lattice_v(const RidgeMap& moving, int y) {
  const Frame frame = frame_of(moving);
  return static_cast<float>((y - frame.cy) / frame.radius);
}

constexpr int kMinLattice = 32;

// From the sums over the lattice, and that of its rows; 0 where there is too little.
FR_HD RidgeCorrelation correlation(const double* s, double sum_y, const Transform& T, int row_step) {
  using namespace refine_kernels;
  const double n = s[kN];
  const int overlap_px = static_cast<int>(2 * row_step * n);
  if (n < kMinLattice) return {0, overlap_px};
  const Turn turn = turn_at(T, {2 * s[kX] / n, sum_y / n});
  const double product =
      s[kFM] - s[kF] * s[kM] / n + turn.m00 * s[kCC] + turn.m01 * s[kCS] + turn.m10 * s[kSC] + turn.m11 * s[kSS];
  const double ff = s[kFF] - s[kF] * s[kF] / n + s[kVF], mm = s[kMM] - s[kM] * s[kM] / n + s[kVM];
  if (!(ff > 1e-6 * n) || !(mm > 1e-6 * n)) return {0, overlap_px};
  const double r = product / std::sqrt(ff * mm);
  return {r < -1 ? -1 : r > 1 ? 1 : r, overlap_px};
}

// The result is better than the start.
FR_HD void accept(const Transform& result, double score, int overlap_px, const RefineOptions& options,
                  Refinement& out) {
  out.T_fixed_moving = result;
  out.score_after = score;
  const double independent = overlap_px * options.samples_per_point / (kPointStepPx * kPointStepPx);
  out.gain_nats = independent * (misfit(out.score_before) - misfit(score));
}

}  // namespace refine_math
}  // namespace fastretina
