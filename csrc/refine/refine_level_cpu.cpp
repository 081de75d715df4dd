// Coarse to fine: Levenberg-Marquardt on the posterior of the transform given the correlation of the ridges.
//
// With the MOVING values m, the FIXED values f(p) and their correlation r, the profile likelihood of Gaussian residuals
// of unknown gain, offset and variance is (1 - r^2)^(-N / 2); N is the number of independent samples, fewer than the
// points.
#include <algorithm>
#include <cmath>

#include "core/transform.h"
#include "refine/refine_level.h"

namespace fastretina::cpu {
namespace {

using namespace refine_math;
using namespace refine_kernels;

constexpr double kMarginPx = 2;            // level px: the reach of the blur
constexpr double kStepPx = 4;              // a step moves no corner of the overlap further, in level px
constexpr int kTrials = 6;                 // damping values tried for a step
constexpr int kUnknowns = kMaxParams + 2;  // + gain and offset

// Inside the field of view with its four diagonal neighbours: the map fades towards the edge, in each image at another
// place, which would pull the alignment.
bool well_inside(View<const RidgePixel> finest, float x, float y, float w, float margin) {
  for (const float dy : {-margin, margin})
    for (const float dx : {-margin, margin})
      if (!is_inside(finest.data, finest.stride, finest.width, finest.height, x + dx, y + dy, w)) return false;
  return true;
}

}  // namespace

Level::Level(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving, int level,
             const RefineOptions& options, const Model& prior)
    : context_(context),
      options_(options),
      prior_(prior),
      scale_(kRidgeScale[level]),
      fixed_(fixed.level[level]),
      moving_(moving.level[level]),
      parameters_(parameter_count(prior.kind)),
      sums_(workspace.take<double>(static_cast<std::size_t>((*moving.count / kChunk + 1) * kMaxSums))) {
  for (float** array : {&x_, &y_, &points_.u, &points_.v, &points_.m[0], &points_.m[1], &points_.m[2]})
    *array = workspace.take<float>(static_cast<std::size_t>(*moving.count + kLanes));
}

int Level::choose(const RidgeMap& fixed, const RidgeMap& moving, const Model& model) {
  const View<const RidgePixel> finest = fixed.level[kRidgeLevels - 1];
  const View<const RidgePixel> own = moving.level[kRidgeLevels - 1];
  const FloatMap map = float_map(model, 1);
  const Frame& frame = model.frame;
  const auto margin = static_cast<float>(kMarginPx * scale_);
  n_ = 0;
  box_ = {1e30, -1e30, 1e30, -1e30};
  double cx = 0, cy = 0;
  const int thin = scale_ >= 8   ? 14
                   : scale_ >= 4 ? 8
                   : scale_ >= 2 ? 4
                                 : 1;  // coarse levels are smooth: fewer points do
  for (int i = 0; i < *moving.count; i += thin) {
    const float px = moving.points[2 * i], py = moving.points[2 * i + 1];
    const auto u = static_cast<float>((static_cast<double>(px) - frame.cx) / frame.radius);
    const auto v = static_cast<float>((static_cast<double>(py) - frame.cy) / frame.radius);
    float x, y, w;
    map_point(map, u, v, x, y, w);
    if (!well_inside(finest, x, y, w, margin)) continue;
    if (!well_inside(own, px, py, 1, margin)) continue;
    x_[n_] = px, y_[n_] = py, points_.u[n_] = u, points_.v[n_] = v;
    ++n_;
    box_ = {std::min(box_.u0, double{u}), std::max(box_.u1, double{u}), std::min(box_.v0, double{v}),
            std::max(box_.v1, double{v})};
    cx += static_cast<double>(px), cy += static_cast<double>(py);
  }
  if (n_ < std::max(options_.min_points, kLanes)) return n_;
  const Turn turn = turn_at(transform_of(model), {cx / n_, cy / n_});
  n_ -= n_ % kLanes;

  const float per_px = 1.0f / static_cast<float>(scale_);
  gather({moving_.data, moving_.stride, moving_.width, moving_.height, per_px}, x_, y_, n_, points_);
  double mean = 0;
  for (int i = 0; i < n_; ++i) mean += static_cast<double>(points_.m[0][i]);
  mean /= n_;
  mm_ = 0;
  for (int i = 0; i < n_; ++i) {
    const double c = static_cast<double>(points_.m[1][i]), s = static_cast<double>(points_.m[2][i]);
    const double m0 = static_cast<double>(points_.m[0][i]) - mean, m1 = turn.m00 * c + turn.m01 * s,
                 m2 = turn.m10 * c + turn.m11 * s;
    mm_ += m0 * m0 + m1 * m1 + m2 * m2;
    points_.m[0][i] = static_cast<float>(m0), points_.m[1][i] = static_cast<float>(m1),
    points_.m[2][i] = static_cast<float>(m2);
  }
  independent_ = std::max(8.0, n_ * thin * options_.samples_per_point);
  return n_;
}

// Prior precision of a parameter: only the terms that bend have one.
double Level::precision(int j) const {
  const bool bends =
      prior_.kind == TransformKind::homography ? j >= 6 : prior_.kind == TransformKind::quadratic && j % 6 >= 3;
  return bends ? 1 / (options_.bend_px * options_.bend_px) : 0;
}

Normal Level::measure(const Model& model) const {
  Job job;
  job.points = points_;
  job.level = fixed_.data, job.stride = fixed_.stride, job.width = fixed_.width, job.height = fixed_.height;
  job.per_plane_px = 1.0f / static_cast<float>(scale_);
  job.map = float_map(model, scale_);
  job.kind = model.kind;
  job.mirror = static_cast<float>(model.mirror);
  job.ox = static_cast<float>((model.ox + 0.5) / scale_ - 0.5);
  job.oy = static_cast<float>((model.oy + 0.5) / scale_ - 0.5);
  job.bend = static_cast<float>(-scale_ / model.frame.radius);
  const int q = parameters_, count = sum_count(q), chunks = (n_ + kChunk - 1) / kChunk;
  context_.parallel_for(
      n_, kChunk, [&](int begin, int end, int) { accumulate(job, q, begin, end, sums_ + begin / kChunk * kMaxSums); });
  double sums[kMaxSums] = {};
  for (int c = 0; c < chunks; ++c)
    for (int i = 0; i < count; ++i) sums[i] += sums_[c * kMaxSums + i];

  Normal out;
  int s = 0;
  for (int j = 0; j < q; ++j)
    for (int k = j; k < q; ++k, ++s) out.gg[j][k] = out.gg[k][j] = sums[s];
  for (int j = 0; j < q; ++j) out.gm[j] = sums[s + j], out.gs[j] = sums[s + q + j], out.gf[j] = sums[s + 2 * q + j];
  s += 3 * q;
  out.ff = std::max(0.0, sums[s] - sums[s + 2] * sums[s + 2] / n_), out.fm = sums[s + 1], out.fs = sums[s + 2];
  out.correlation = out.fm / std::sqrt(out.ff * mm_ + 1e-12);
  out.cost = independent_ * misfit(out.correlation);
  for (int j = 0; j < q; ++j) {
    const double d = model.p[j] - prior_.p[j];
    out.cost += 0.5 * precision(j) * d * d;
  }
  return out;
}

namespace {

// Solves a x = b for symmetric positive definite a (Cholesky, in place). false: it is not.
bool solve(double a[kUnknowns][kUnknowns], double b[kUnknowns], int n) {
  for (int j = 0; j < n; ++j) {
    for (int k = 0; k < j; ++k) {
      double sum = a[j][k];
      for (int i = 0; i < k; ++i) sum -= a[j][i] * a[k][i];
      a[j][k] = sum / a[k][k];
    }
    double sum = a[j][j];
    for (int i = 0; i < j; ++i) sum -= a[j][i] * a[j][i];
    if (!(sum > 0)) return false;
    a[j][j] = std::sqrt(sum);
  }
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < j; ++i) b[j] -= a[j][i] * b[i];
    b[j] /= a[j][j];
  }
  for (int j = n - 1; j >= 0; --j) {
    for (int i = j + 1; i < n; ++i) b[j] -= a[i][j] * b[i];
    b[j] /= a[j][j];
  }
  return true;
}

}  // namespace

// Least squares of f + G delta - gain m - offset, with the prior in units of the residual's variance.
bool Level::step(const Normal& now, const Model& model, double damping, double delta[kMaxParams]) const {
  const int q = parameters_;
  const double r = std::min(std::max(now.correlation, 0.0), 0.999999);
  const double variance = now.ff * (1 - r * r) / independent_ + 1e-15;
  double a[kUnknowns][kUnknowns], b[kUnknowns];
  for (int j = 0; j < q; ++j) {
    for (int k = 0; k < q; ++k) a[j][k] = now.gg[j][k];
    a[j][j] += precision(j) * variance + damping * now.gg[j][j] + 1e-9;
    a[q][j] = a[j][q] = -now.gm[j];
    a[q + 1][j] = a[j][q + 1] = -now.gs[j];
    b[j] = -now.gf[j] - precision(j) * variance * (model.p[j] - prior_.p[j]);
  }
  a[q][q] = mm_ * (1 + 1e-9) + 1e-12;
  a[q + 1][q + 1] = n_;
  a[q][q + 1] = a[q + 1][q] = 0;  // m's strength is centred
  b[q] = now.fm;
  b[q + 1] = now.fs;
  if (!solve(a, b, q + 2)) return false;
  std::copy_n(b, q, delta);
  return true;
}

// The furthest that a corner of the overlap's box moves between two models, plane px.
double Level::reach(const Model& a, const Model& b) const {
  const FloatMap ma = float_map(a, 1), mb = float_map(b, 1);
  double most = 0;
  for (const double u : {box_.u0, box_.u1})
    for (const double v : {box_.v0, box_.v1}) {
      float xa, ya, xb, yb, w;
      map_point(ma, static_cast<float>(u), static_cast<float>(v), xa, ya, w);
      map_point(mb, static_cast<float>(u), static_cast<float>(v), xb, yb, w);
      const double d = std::hypot(static_cast<double>(xa) - static_cast<double>(xb),
                                  static_cast<double>(ya) - static_cast<double>(yb));
      most = w > 0 && std::isfinite(d) ? std::max(most, d) : 1e30;
    }
  return most;
}

double Level::shift(const Model& a, const Model& b) const {
  const FloatMap ma = float_map(a, 1), mb = float_map(b, 1);
  double sum = 0;
  for (int i = 0; i < n_; ++i) {
    float xa, ya, xb, yb, w;
    map_point(ma, points_.u[i], points_.v[i], xa, ya, w);
    map_point(mb, points_.u[i], points_.v[i], xb, yb, w);
    const double dx = static_cast<double>(xa) - static_cast<double>(xb);
    const double dy = static_cast<double>(ya) - static_cast<double>(yb);
    sum += dx * dx + dy * dy;
  }
  return std::sqrt(sum / std::max(n_, 1));
}

int Level::run(Model& model) {
  Normal now = measure(model);
  double damping = 1e-3;
  int iteration = 0;
  while (iteration < options_.max_iterations) {
    ++iteration;
    bool better = false;
    double moved = 0;
    for (int trial = 0; trial < kTrials && !better; ++trial) {
      double delta[kMaxParams];
      if (!step(now, model, damping, delta)) break;
      Model next = model;
      for (int j = 0; j < parameters_; ++j) next.p[j] += delta[j];
      moved = reach(model, next);
      if (moved > kStepPx * scale_) {
        for (int j = 0; j < parameters_; ++j) next.p[j] = model.p[j] + delta[j] * (kStepPx * scale_ / moved);
        moved = kStepPx * scale_;
      }
      const Normal then = measure(next);
      better = then.cost < now.cost;
      if (better) {
        model = next;
        now = then;
        damping = std::max(0.2 * damping, 1e-5);
      } else {
        if (moved < options_.epsilon_px * scale_) break;
        damping = std::max(8 * damping, 1e-3);
      }
    }
    if (!better || moved < options_.epsilon_px * scale_) break;
  }
  return iteration;
}

}  // namespace fastretina::cpu
