// The climb of one level of refine: Levenberg-Marquardt on the posterior of the transform given the correlation of the
// ridges. It says which model to measure next and is told the sums, whoever computes them.
//
// With the MOVING values m, the FIXED values f(p) and their correlation r, the profile likelihood of Gaussian residuals
// of unknown gain, offset and variance is (1 - r^2)^(-N / 2); N is the number of independent samples, fewer than the
// points.
#pragma once

#include "refine/refine.h"
#include "refine/refine_kernels.h"
#include "refine/refine_model.h"

namespace fastretina::refine_math {

constexpr double kMarginPx = 2;            // level px: the reach of the blur
constexpr double kStepPx = 4;              // a step moves no corner of the overlap further, in level px
constexpr int kTrials = 6;                 // damping values tried for a step
constexpr int kUnknowns = kMaxParams + 2;  // + gain and offset

struct Normal {
  double gg[kMaxParams][kMaxParams];  // G'G
  double gm[kMaxParams], gs[kMaxParams], gf[kMaxParams];
  double ff = 0, fm = 0, fs = 0;
  double correlation = 0;  // of f and m, f's strength centred
  double cost = 0;         // minus log posterior
};

struct Box {
  double u0 = 1e30, u1 = -1e30, v0 = 1e30, v1 = -1e30;
};

// Coarse levels are smooth: every how manieth point does.
FR_HD int thinning(int scale) { return scale >= 8 ? 14 : scale >= 4 ? 8 : scale >= 2 ? 4 : 1; }

// Inside the field of view with its four diagonal neighbours: the map fades towards the edge, in each image at another
// place, which would pull the alignment.
FR_HD bool well_inside(const View<const RidgePixel>& finest, float x, float y, float w, float margin) {
  for (int corner = 0; corner < 4; ++corner) {
    const float dx = corner & 1 ? margin : -margin, dy = corner & 2 ? margin : -margin;
    if (!is_inside(finest.data, finest.stride, finest.width, finest.height, x + dx, y + dy, w)) return false;
  }
  return true;
}

// Solves a x = b for symmetric positive definite a (Cholesky, in place). false: it is not.
FR_HD bool solve(double a[kUnknowns][kUnknowns], double b[kUnknowns], int n) {
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

// The furthest that a corner of a box moves between two models, plane px; infinite beyond a pole.
FR_HD double reach(const Box& box, const Model& a, const Model& b) {
  const FloatMap ma = float_map(a, 1), mb = float_map(b, 1);
  double most = 0;
  for (int corner = 0; corner < 4; ++corner) {
    const auto u = static_cast<float>(corner < 2 ? box.u0 : box.u1),
               v = static_cast<float>(corner % 2 ? box.v1 : box.v0);
    float xa, ya, xb, yb, w;
    map_point(ma, u, v, xa, ya, w);
    map_point(mb, u, v, xb, yb, w);
    const double d = std::hypot(static_cast<double>(xa) - static_cast<double>(xb),
                                static_cast<double>(ya) - static_cast<double>(yb));
    most = w > 0 && std::isfinite(d) ? (d > most ? d : most) : 1e30;
  }
  return most;
}

class Climb {
 public:
  // What the level's points say, before start().
  RefineOptions options;
  Model prior;
  int scale = 1, points = 0;
  double independent = 0;  // samples
  double mm = 0;           // sum of the squares of the centred MOVING values
  Box box;

  // Until done(): measure next() and tell its sums (refine_kernels.h).
  FR_HD void start(const Model& from) {
    model_ = next_ = from;
    damping_ = 1e-3;
    iterations_ = trial_ = 0;
    done_ = started_ = false;
  }
  FR_HD const Model& next() const { return next_; }
  FR_HD bool done() const { return done_; }
  FR_HD const Model& model() const { return model_; }
  FR_HD int iterations() const { return iterations_; }

  FR_HD_CALL void tell(const double* sums) {
    const Normal then = normal_of(sums, next_);
    if (!started_) {
      started_ = true;
      now_ = then;
      begin_iteration();
      return;
    }
    const bool still = moved_ < options.epsilon_px * scale;
    if (then.cost < now_.cost) {
      model_ = next_;
      now_ = then;
      damping_ = 0.2 * damping_ > 1e-5 ? 0.2 * damping_ : 1e-5;
      if (still)
        done_ = true;
      else
        begin_iteration();
      return;
    }
    damping_ = 8 * damping_ > 1e-3 ? 8 * damping_ : 1e-3;
    if (still || ++trial_ == kTrials)
      done_ = true;
    else
      propose();
  }

 private:
  FR_HD void begin_iteration() {
    if (iterations_ >= options.max_iterations) {
      done_ = true;
      return;
    }
    ++iterations_;
    trial_ = 0;
    propose();
  }

  FR_HD void propose() {
    double delta[kMaxParams];
    if (!step(delta)) {
      done_ = true;
      return;
    }
    const int q = parameter_count(prior.kind);
    next_ = model_;
    for (int j = 0; j < q; ++j) next_.p[j] += delta[j];
    moved_ = reach(box, model_, next_);
    if (moved_ > kStepPx * scale) {
      for (int j = 0; j < q; ++j) next_.p[j] = model_.p[j] + delta[j] * (kStepPx * scale / moved_);
      moved_ = kStepPx * scale;
    }
  }

  // Prior precision of a parameter: only the terms that bend have one.
  FR_HD double precision(int j) const {
    const bool bends =
        prior.kind == TransformKind::homography ? j >= 6 : prior.kind == TransformKind::quadratic && j % 6 >= 3;
    return bends ? 1 / (options.bend_px * options.bend_px) : 0;
  }

  FR_HD Normal normal_of(const double* sums, const Model& model) const {
    const int q = parameter_count(prior.kind);
    Normal out;
    int s = 0;
    for (int j = 0; j < q; ++j)
      for (int k = j; k < q; ++k, ++s) out.gg[j][k] = out.gg[k][j] = sums[s];
    for (int j = 0; j < q; ++j) out.gm[j] = sums[s + j], out.gs[j] = sums[s + q + j], out.gf[j] = sums[s + 2 * q + j];
    s += 3 * q;
    const double ff = sums[s] - sums[s + 2] * sums[s + 2] / points;
    out.ff = ff > 0 ? ff : 0.0, out.fm = sums[s + 1], out.fs = sums[s + 2];
    out.correlation = out.fm / std::sqrt(out.ff * mm + 1e-12);
    out.cost = independent * misfit(out.correlation);
    for (int j = 0; j < q; ++j) {
      const double d = model.p[j] - prior.p[j];
      out.cost += 0.5 * precision(j) * d * d;
    }
    return out;
  }

  // Least squares of f + G delta - gain m - offset, with the prior in units of the residual's variance.
  FR_HD bool step(double delta[kMaxParams]) const {
    const int q = parameter_count(prior.kind);
    const double positive = now_.correlation > 0 ? now_.correlation : 0.0,
                 r = positive < 0.999999 ? positive : 0.999999;
    const double variance = now_.ff * (1 - r * r) / independent + 1e-15;
    double a[kUnknowns][kUnknowns], b[kUnknowns];
    for (int j = 0; j < q; ++j) {
      for (int k = 0; k < q; ++k) a[j][k] = now_.gg[j][k];
      a[j][j] += precision(j) * variance + damping_ * now_.gg[j][j] + 1e-9;
      a[q][j] = a[j][q] = -now_.gm[j];
      a[q + 1][j] = a[j][q + 1] = -now_.gs[j];
      b[j] = -now_.gf[j] - precision(j) * variance * (model_.p[j] - prior.p[j]);
    }
    a[q][q] = mm * (1 + 1e-9) + 1e-12;
    a[q + 1][q + 1] = points;
    a[q][q + 1] = a[q + 1][q] = 0;  // m's strength is centred
    b[q] = now_.fm;
    b[q + 1] = now_.fs;
    if (!solve(a, b, q + 2)) return false;
    for (int j = 0; j < q; ++j) delta[j] = b[j];
    return true;
  }

  Model model_, next_;
  Normal now_;
  double damping_ = 1e-3, moved_ = 0;
  int iterations_ = 0, trial_ = 0;
  bool done_ = false, started_ = false;
};

// Of the points of a level for a model.
FR_HD refine_kernels::Job job_of(const Model& model, const View<const RidgePixel>& fixed, int scale,
                                 const refine_kernels::PointSet& points) {
  refine_kernels::Job job;
  job.points = points;
  job.level = fixed.data, job.stride = fixed.stride, job.width = fixed.width, job.height = fixed.height;
  job.per_plane_px = 1.0f / static_cast<float>(scale);
  job.map = float_map(model, scale);
  job.kind = model.kind;
  job.mirror = static_cast<float>(model.mirror);
  job.ox = static_cast<float>((model.ox + 0.5) / scale - 0.5);
  job.oy = static_cast<float>((model.oy + 0.5) / scale - 0.5);
  job.bend = static_cast<float>(-scale / model.frame.radius);
  return job;
}

}  // namespace fastretina::refine_math
