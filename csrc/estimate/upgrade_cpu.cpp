// From a transform that is roughly right to the simplest model that none explains clearly better.
#include <algorithm>
#include <cmath>

#include "core/transform.h"
#include "estimate/estimate.h"
#include "estimate/problem.h"

namespace fastretina::cpu {
namespace {

using namespace fastretina::estimating;

constexpr double kWide = 1.6;            // thresholds that the last fits' biweight reaches
constexpr double kRetinaFrame = 640;     // px; the priors below are for frames of this size
constexpr double kPerspectiveSd = 1e-4;  // 1/px
constexpr double kBendSd = 1.5e-5;       // px/px^2
constexpr double kMaxStray = 1.0;        // predicted standard deviation anywhere in the overlap, thresholds
constexpr int kGrid = 8;

struct Candidate {
  TransformKind kind = TransformKind::similarity;
  Model model;
  Certainty certainty;
  double cost = 0;
};

struct Ladder {
  Candidate rungs[4];
  int count = 0;
};

int larger_side(Size s) { return std::max(s.width, s.height); }

// The priors as ridges: noise variance over the variance of the bending terms, per room unit.
double ridge(TransformKind kind, double noise_sq, const Coordinates& c, Size fixed, Size moving) {
  const double shrink = kRetinaFrame / larger_side(moving);
  if (kind == TransformKind::homography) {
    const double sd = kPerspectiveSd * shrink * c.scale;
    return noise_sq / (sd * sd);
  }
  if (kind != TransformKind::quadratic) return 0;
  const double sd = kBendSd * shrink * shrink * (larger_side(fixed) / kRetinaFrame) * c.scale * c.scale;
  return noise_sq / (sd * sd);
}

double residual_squared(const Model& m, double x, double y, double u, double v) {
  double mu = 0, mv = 0, w = 1;
  if (m.form == Form::quadratic)
    map_point<Form::quadratic>(m.p, x, y, mu, mv, w);
  else if (m.form == Form::homography)
    map_point<Form::homography>(m.p, x, y, mu, mv, w);
  else
    map_point<Form::affine>(m.p, x, y, mu, mv, w);
  const double r = (u - mu) * (u - mu) + (v - mv) * (v - mv);
  return w > 0 ? r : 1e30;
}

double pair_residual(const PairArrays& a, int i, const Model& m) {
  return residual_squared(m, static_cast<double>(a.x[i]), static_cast<double>(a.y[i]), static_cast<double>(a.u[i]),
                          static_cast<double>(a.v[i]));
}

// Fits `kind` from `from`, through narrowing thresholds.
bool fit_rung(const Kernels& kernel, const Problem& problem, FitRules rules, const Model& from, double squared,
              Candidate& out) {
  static constexpr double kReach[] = {4, 3, 2.5, 2};
  out.kind = rules.kind;
  out.model = from;
  promote(rules.kind, out.model);
  Moments moments;
  for (const double reach : kReach) {
    kernel.moments(problem.ordered, out.model, reach * reach * squared, 1e30, &moments);
    if (!fit_step(moments, rules, out.model)) return false;
  }
  moments = polish(kernel, problem, rules, kWide * kWide * squared, 10, out.model, &out.certainty);
  return moments.inliers >= minimal_pairs(rules.kind) && out.certainty.parameters > 0;
}

// Robust costs over the pairs that any rung explains, in units of the noise, with BIC's price for parameters.
void price(const Problem& problem, double squared, Ladder& ladder) {
  const PairArrays& a = problem.ordered;
  double cost[4] = {}, square[4] = {};
  int inside[4] = {}, explained = 0;
  for (int i = 0; i < a.count; ++i) {
    double r[4], least = 1e30;
    for (int k = 0; k < ladder.count; ++k) {
      r[k] = pair_residual(a, i, ladder.rungs[k].model);
      least = std::min(least, r[k]);
    }
    if (least >= squared) continue;
    ++explained;
    const double weight = static_cast<double>(a.weight[i]);
    for (int k = 0; k < ladder.count; ++k) {
      cost[k] += weight * std::min(r[k], squared);
      if (r[k] < squared) square[k] += r[k], ++inside[k];
    }
  }
  double noise = squared / 9;
  for (int k = 0; k < ladder.count; ++k)
    if (inside[k] > 0) noise = std::min(noise, 0.5 * square[k] / inside[k]);
  noise = std::max(noise, squared / 100);
  for (int k = 0; k < ladder.count; ++k)
    ladder.rungs[k].cost = cost[k] / noise + parameter_count(ladder.rungs[k].kind) * std::log(std::max(2, explained));
}

// The overlap of the frames as cells of the MOVING one: in it (by `base`), and near an inlier of the candidate?
struct Cells {
  bool in_overlap[kGrid][kGrid] = {}, covered[kGrid][kGrid] = {};
  double x[kGrid + 1] = {}, y[kGrid + 1] = {};  // corners, room coordinates
  int overlap = 0, both = 0;
};

Point place(const Model& m, double x, double y) {
  Point at;
  double w = 1;
  if (m.form == Form::quadratic)
    map_point<Form::quadratic>(m.p, x, y, at.x, at.y, w);
  else if (m.form == Form::homography)
    map_point<Form::homography>(m.p, x, y, at.x, at.y, w);
  else
    map_point<Form::affine>(m.p, x, y, at.x, at.y, w);
  return at;
}

Cells survey(const Problem& problem, const Model& base, const Model& model, double squared, Size fixed, Size moving) {
  const Coordinates& c = problem.coordinates;
  Cells cells;
  for (int i = 0; i <= kGrid; ++i) {
    cells.x[i] = (moving.width * i / static_cast<double>(kGrid) - 0.5 - c.moving_x) / c.scale;
    cells.y[i] = (moving.height * i / static_cast<double>(kGrid) - 0.5 - c.moving_y) / c.scale;
  }
  for (int r = 0; r < kGrid; ++r)
    for (int k = 0; k < kGrid; ++k) {
      const Point p = place(base, 0.5 * (cells.x[k] + cells.x[k + 1]), 0.5 * (cells.y[r] + cells.y[r + 1]));
      const double u = p.x + c.fixed_x, v = p.y + c.fixed_y;
      cells.in_overlap[r][k] = u >= -0.5 && v >= -0.5 && u <= fixed.width - 0.5 && v <= fixed.height - 0.5;
    }
  const PairArrays& a = problem.ordered;
  for (int i = 0; i < a.count; ++i) {
    if (!(pair_residual(a, i, model) < squared)) continue;
    const double x = static_cast<double>(a.x[i]) * c.scale + c.moving_x;
    const double y = static_cast<double>(a.y[i]) * c.scale + c.moving_y;
    const int k = std::clamp(static_cast<int>((x + 0.5) * kGrid / moving.width), 0, kGrid - 1);
    const int r = std::clamp(static_cast<int>((y + 0.5) * kGrid / moving.height), 0, kGrid - 1);
    for (int dr = std::max(0, r - 1); dr <= std::min(kGrid - 1, r + 1); ++dr)
      for (int dk = std::max(0, k - 1); dk <= std::min(kGrid - 1, k + 1); ++dk) cells.covered[dr][dk] = true;
  }
  for (int r = 0; r < kGrid; ++r)
    for (int k = 0; k < kGrid; ++k) {
      cells.overlap += cells.in_overlap[r][k];
      cells.both += cells.in_overlap[r][k] && cells.covered[r][k];
    }
  return cells;
}

double least_coverage(TransformKind kind) {
  return kind == TransformKind::quadratic ? 0.5 : kind == TransformKind::homography ? 0.35 : 0.25;
}

// Nothing wild in the overlap: enough of it is covered, predictions are certain everywhere, the candidate leaves the
// simpler model outside the covered cells by no more than what it does inside would suggest, and nothing folds.
bool tame(const Problem& problem, const Candidate& simple, const Candidate& candidate, double noise_sq,
          double threshold_px, Size fixed, Size moving) {
  const Cells cells = survey(problem, simple.model, candidate.model, threshold_px * threshold_px, fixed, moving);
  if (cells.overlap == 0 || cells.both < least_coverage(candidate.kind) * cells.overlap) return false;
  double inside = 0, outside = 0;
  for (int r = 0; r < kGrid; ++r)
    for (int k = 0; k < kGrid; ++k) {
      if (!cells.in_overlap[r][k]) continue;
      for (int corner = 0; corner < 4; ++corner) {
        const double x = cells.x[k + (corner & 1)], y = cells.y[r + (corner >> 1)];
        const double stray = noise_sq * prediction_variance(candidate.certainty, candidate.kind, candidate.model, x, y);
        if (!(stray <= kMaxStray * kMaxStray * threshold_px * threshold_px)) return false;
        const double turn = area_ratio(candidate.model, x, y) / area_ratio(simple.model, x, y);
        if (!(turn > 0.25 && turn < 4)) return false;
        const Point a = place(simple.model, x, y), b = place(candidate.model, x, y);
        double& most = cells.covered[r][k] ? inside : outside;
        most = std::max(most, std::hypot(a.x - b.x, a.y - b.y));
      }
    }
  return outside <= 2 * inside + threshold_px;
}

}  // namespace

void upgrade(const Context&, Workspace& workspace, const PointPairs& pairs, const Transform& start, Size fixed,
             Size moving, const UpgradeOptions& options, Estimate* out, std::uint8_t* inlier) {
  Workspace::Frame frame(workspace);
  *out = {};
  if (inlier) std::fill_n(inlier, *pairs.count, std::uint8_t{0});
  const TransformKind lowest = std::max(start.kind, TransformKind::similarity);
  if (*pairs.count < minimal_pairs(lowest)) return;
  const Problem problem = prepare(workspace, pairs);
  const Kernels& kernel = kernels();
  const double squared = options.threshold_px * options.threshold_px, noise = squared / 9;

  Model from;
  if (!from_transform(start, problem.coordinates, from)) return;
  const bool mirrored = from.form == Form::affine && from.p[0] * from.p[4] - from.p[1] * from.p[3] < 0;
  Ladder ladder;
  for (int k = static_cast<int>(lowest); k <= static_cast<int>(std::max(lowest, options.max_kind)); ++k) {
    const auto kind = static_cast<TransformKind>(k);
    Candidate& rung = ladder.rungs[ladder.count];
    const FitRules rules = {kind, mirrored, ridge(kind, noise, problem.coordinates, fixed, moving)};
    // A quadratic grows from the affine rung: no quadratic equals a homography.
    const Candidate* below = nullptr;
    for (int i = 0; i < ladder.count; ++i)
      if (kind != TransformKind::quadratic || ladder.rungs[i].model.form == Form::affine) below = &ladder.rungs[i];
    if (ladder.count > 0 && !below) continue;
    if (fit_rung(kernel, problem, rules, below ? below->model : from, squared, rung))
      ++ladder.count;
    else if (ladder.count == 0)
      return;
    ++out->iterations;
  }

  price(problem, squared, ladder);
  int chosen = 0;
  for (int i = 1; i < ladder.count; ++i) {
    const bool clearly_better = ladder.rungs[i].cost < (1 - options.min_gain) * ladder.rungs[chosen].cost;
    if (clearly_better &&
        tame(problem, ladder.rungs[chosen], ladder.rungs[i], noise, options.threshold_px, fixed, moving))
      chosen = i;
  }
  Transform transform;
  if (!to_transform(ladder.rungs[chosen].model, ladder.rungs[chosen].kind, problem.coordinates, transform)) return;
  report(pairs, transform, options.threshold_px, out, inlier);
  out->found = out->inliers >= minimal_pairs(transform.kind);
  if (out->found) out->T_fixed_moving = transform;
}

}  // namespace fastretina::cpu
