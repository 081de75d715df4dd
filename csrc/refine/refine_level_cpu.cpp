// One level of refine on the CPU: its points, and their sums for the climb of refine_climb.h.
#include <algorithm>
#include <cmath>

#include "core/transform.h"
#include "refine/refine_level.h"

namespace fastretina::cpu {

using namespace refine_math;
using namespace refine_kernels;

Level::Level(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving, int level,
             const RefineOptions& options, const Model& prior)
    : context_(context),
      scale_(kRidgeScale[level]),
      fixed_(fixed.level[level]),
      moving_(moving.level[level]),
      sums_(workspace.take<double>(static_cast<std::size_t>((*moving.count / kChunk + 1) * kMaxSums))) {
  climb_.options = options;
  climb_.prior = prior;
  climb_.scale = scale_;
  for (float** array : {&x_, &y_, &points_.u, &points_.v, &points_.m[0], &points_.m[1], &points_.m[2]})
    *array = workspace.take<float>(static_cast<std::size_t>(*moving.count + kLanes));
}

int Level::choose(const RidgeMap& fixed, const RidgeMap& moving, const Model& model) {
  const int thin = thinning(scale_), candidates = (*moving.count + thin - 1) / thin;
  overlap({fixed.level[kRidgeLevels - 1], moving.level[kRidgeLevels - 1], float_map(model, 1), model.frame,
           static_cast<float>(kMarginPx * scale_), thin},
          moving.points, candidates, {x_, y_, points_.u, points_.v}, n_);
  Box& box = climb_.box;
  double cx = 0, cy = 0;
  for (int i = 0; i < n_; ++i) {
    const double u = static_cast<double>(points_.u[i]), v = static_cast<double>(points_.v[i]);
    box = {std::min(box.u0, u), std::max(box.u1, u), std::min(box.v0, v), std::max(box.v1, v)};
    cx += static_cast<double>(x_[i]), cy += static_cast<double>(y_[i]);
  }
  if (n_ < std::max(climb_.options.min_points, kLanes)) return n_;
  const Turn turn = turn_at(transform_of(model), {cx / n_, cy / n_});
  n_ -= n_ % kLanes;

  const float per_px = 1.0f / static_cast<float>(scale_);
  gather({moving_.data, moving_.stride, moving_.width, moving_.height, per_px}, x_, y_, n_, points_);
  double mean = 0;
  for (int i = 0; i < n_; ++i) mean += static_cast<double>(points_.m[0][i]);
  mean /= n_;
  double& mm = climb_.mm;
  for (int i = 0; i < n_; ++i) {
    const double c = static_cast<double>(points_.m[1][i]), s = static_cast<double>(points_.m[2][i]);
    const double m0 = static_cast<double>(points_.m[0][i]) - mean, m1 = turn.m00 * c + turn.m01 * s,
                 m2 = turn.m10 * c + turn.m11 * s;
    mm += m0 * m0 + m1 * m1 + m2 * m2;
    points_.m[0][i] = static_cast<float>(m0), points_.m[1][i] = static_cast<float>(m1),
    points_.m[2][i] = static_cast<float>(m2);
  }
  climb_.points = n_;
  climb_.independent = std::max(8.0, n_ * thin * climb_.options.samples_per_point);
  return n_;
}

int Level::run(Model& model) {
  const int q = parameter_count(climb_.prior.kind), count = sum_count(q), chunks = (n_ + kChunk - 1) / kChunk;
  for (climb_.start(model); !climb_.done();) {
    const Job job = job_of(climb_.next(), fixed_, scale_, points_);
    context_.parallel_for(n_, kChunk, [&](int begin, int end, int) {
      accumulate(job, q, begin, end, sums_ + begin / kChunk * kMaxSums);
    });
    double sums[kMaxSums] = {};
    for (int c = 0; c < chunks; ++c)
      for (int i = 0; i < count; ++i) sums[i] += sums_[c * kMaxSums + i];
    climb_.tell(sums);
  }
  model = climb_.model();
  return climb_.iterations();
}

double Level::reach(const Model& a, const Model& b) const { return refine_math::reach(climb_.box, a, b); }

double Level::shift(const Model& a, const Model& b) const {
  double sum = 0;
  apart(float_map(a, 1), float_map(b, 1), points_.u, points_.v, n_, sum);
  return std::sqrt(sum / std::max(n_, 1));
}

}  // namespace fastretina::cpu
