// The whole of upgrade(): from a transform that is roughly right to the simplest model that none explains clearly
// better. For both sides: see problem.h for what a Run is.
#pragma once

#include "estimate/search.h"

namespace fastretina::estimating {

constexpr double kRetinaFrame = 640;     // px; the priors below are for frames of this size
constexpr double kPerspectiveSd = 1e-4;  // 1/px
constexpr double kBendSd = 1.5e-5;       // px/px^2
constexpr double kMaxStray = 1.0;        // predicted standard deviation anywhere in the overlap, thresholds
constexpr int kGrid = 8;

struct Rung {
  TransformKind kind = TransformKind::similarity;
  Model model;
  Certainty certainty;
  double cost = 0;
};

struct Ladder {
  Rung rungs[4];
  int count = 0;
};

FR_HD int larger_side(Size s) { return s.width > s.height ? s.width : s.height; }

// The priors as ridges: noise variance over the variance of the bending terms, per room unit.
FR_HD double ridge(TransformKind kind, double noise_sq, const Coordinates& c, Size fixed, Size moving) {
  const double shrink = kRetinaFrame / larger_side(moving);
  if (kind == TransformKind::homography) {
    const double sd = kPerspectiveSd * shrink * c.scale;
    return noise_sq / (sd * sd);
  }
  if (kind != TransformKind::quadratic) return 0;
  const double sd = kBendSd * shrink * shrink * (larger_side(fixed) / kRetinaFrame) * c.scale * c.scale;
  return noise_sq / (sd * sd);
}

FR_HD double squared_residual(const Model& m, double x, double y, double u, double v) {
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

FR_HD double pair_residual(const PairArrays& a, int i, const Model& m) {
  return squared_residual(m, static_cast<double>(a.x[i]), static_cast<double>(a.y[i]), static_cast<double>(a.u[i]),
                          static_cast<double>(a.v[i]));
}

// Fits `kind` from `from`, through narrowing thresholds.
template <class Run>
FR_SIDE bool fit_rung(Run& run, const FitRules& rules, const Model& from, double squared, Rung& out) {
  constexpr double kReach[] = {4, 3, 2.5, 2};
  out.kind = rules.kind;
  out.model = from;
  promote(rules.kind, out.model);
  Moments moments;
  for (const double reach : kReach) {
    run.moments(run.problem.ordered, out.model, reach * reach * squared, 1e30, &moments);
    if (!fit_step(moments, rules, out.model)) return false;
  }
  moments = polish(run, rules, kWide * kWide * squared, 10, out.model, &out.certainty);
  return moments.inliers >= minimal_pairs(rules.kind) && out.certainty.parameters > 0;
}

// Robust costs over the pairs that any rung explains, in units of the noise, with BIC's price for parameters.
template <class Run>
FR_SIDE void price(Run& run, double squared, Ladder& ladder) {
  const PairArrays& a = run.problem.ordered;
  const int count = ladder.count;
  Tally<13> all;  // of each rung: cost, squares and number of the pairs inside; then how many pairs are explained
  run.tally(a.count, all, [&](int i, Tally<13>& t) {
    double r[4], least = 1e30;
    for (int k = 0; k < count; ++k) {
      r[k] = pair_residual(a, i, ladder.rungs[k].model);
      least = r[k] < least ? r[k] : least;
    }
    if (least >= squared) return;
    t.sum[12] += 1;
    const double weight = static_cast<double>(a.weight[i]);
    for (int k = 0; k < count; ++k) {
      t.sum[k] += weight * (r[k] < squared ? r[k] : squared);
      if (r[k] < squared) t.sum[4 + k] += r[k], t.sum[8 + k] += 1;
    }
  });
  const double *cost = all.sum, *square = all.sum + 4, *inside = all.sum + 8;
  double noise = squared / 9;
  for (int k = 0; k < count; ++k)
    if (inside[k] > 0) noise = std::fmin(noise, 0.5 * square[k] / inside[k]);
  noise = std::fmax(noise, squared / 100);
  const double explained = std::fmax(2.0, all.sum[12]);
  for (int k = 0; k < count; ++k)
    ladder.rungs[k].cost = cost[k] / noise + parameter_count(ladder.rungs[k].kind) * std::log(explained);
}

// The overlap of the frames as cells of the MOVING one: in it (by `base`), and near an inlier of the candidate?
struct Cells {
  bool in_overlap[kGrid][kGrid] = {}, covered[kGrid][kGrid] = {};
  double x[kGrid + 1] = {}, y[kGrid + 1] = {};  // corners, room coordinates
  int overlap = 0, both = 0;
};

FR_HD Point place(const Model& m, double x, double y) {
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

FR_HD int clamped_cell(double along) {
  const int cell = static_cast<int>(along);
  return cell < 0 ? 0 : cell < kGrid ? cell : kGrid - 1;
}

template <class Run>
FR_SIDE Cells survey(Run& run, const Model& base, const Model& model, double squared, Size fixed, Size moving) {
  const Coordinates& c = run.problem.coordinates;
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
  const PairArrays& a = run.problem.ordered;
  Tally<1> near;  // a bit a cell
  run.tally(a.count, near, [&](int i, Tally<1>& t) {
    if (!(pair_residual(a, i, model) < squared)) return;
    const double x = static_cast<double>(a.x[i]) * c.scale + c.moving_x;
    const double y = static_cast<double>(a.y[i]) * c.scale + c.moving_y;
    const int k = clamped_cell((x + 0.5) * kGrid / moving.width), r = clamped_cell((y + 0.5) * kGrid / moving.height);
    for (int dr = r > 0 ? r - 1 : 0; dr <= r + 1 && dr < kGrid; ++dr)
      for (int dk = k > 0 ? k - 1 : 0; dk <= k + 1 && dk < kGrid; ++dk)
        t.flags[0] |= std::uint64_t{1} << (dr * kGrid + dk);
  });
  for (int i = 0; i < kGrid * kGrid; ++i) cells.covered[i / kGrid][i % kGrid] = near.flags[0] >> i & 1;
  for (int r = 0; r < kGrid; ++r)
    for (int k = 0; k < kGrid; ++k) {
      cells.overlap += cells.in_overlap[r][k];
      cells.both += cells.in_overlap[r][k] && cells.covered[r][k];
    }
  return cells;
}

FR_HD double least_coverage(TransformKind kind) {
  return kind == TransformKind::quadratic ? 0.5 : kind == TransformKind::homography ? 0.35 : 0.25;
}

// Nothing wild in the overlap: enough of it is covered, predictions are certain everywhere, the candidate leaves the
// simpler model outside the covered cells by no more than what it does inside would suggest, and nothing folds.
template <class Run>
FR_SIDE bool tame(Run& run, const Rung& simple, const Rung& candidate, double noise_sq, double threshold_px, Size fixed,
                  Size moving) {
  const Cells cells = survey(run, simple.model, candidate.model, threshold_px * threshold_px, fixed, moving);
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
        const double apart = std::hypot(a.x - b.x, a.y - b.y);
        most = apart > most ? apart : most;
      }
    }
  return outside <= 2 * inside + threshold_px;
}

struct Frames {
  Size fixed, moving;
};

template <class Run>
FR_SIDE Estimate upgrade(Run& run, const PointPairs& pairs, const Transform& start, const Frames& frames,
                         const UpgradeOptions& options, std::uint8_t* inlier) {
  Estimate out;
  const Size fixed = frames.fixed, moving = frames.moving;
  const TransformKind lowest = start.kind > TransformKind::similarity ? start.kind : TransformKind::similarity;
  if (*pairs.count < minimal_pairs(lowest)) return out;
  prepare(run, pairs, run.problem);
  const double squared = options.threshold_px * options.threshold_px, noise = squared / 9;

  const int highest = static_cast<int>(lowest > options.max_kind ? lowest : options.max_kind);
  Model from;
  if (!from_transform(start, run.problem.coordinates, from)) return out;
  const bool mirrored = from.form == Form::affine && from.p[0] * from.p[4] - from.p[1] * from.p[3] < 0;
  Ladder ladder;
  for (int k = static_cast<int>(lowest); k <= highest; ++k) {
    const auto kind = static_cast<TransformKind>(k);
    Rung& rung = ladder.rungs[ladder.count];
    const FitRules rules = {kind, mirrored, ridge(kind, noise, run.problem.coordinates, fixed, moving)};
    // A quadratic grows from the affine rung: no quadratic equals a homography.
    const Rung* below = nullptr;
    for (int i = 0; i < ladder.count; ++i)
      if (kind != TransformKind::quadratic || ladder.rungs[i].model.form == Form::affine) below = &ladder.rungs[i];
    if (ladder.count > 0 && !below) continue;
    if (fit_rung(run, rules, below ? below->model : from, squared, rung))
      ++ladder.count;
    else if (ladder.count == 0)
      return out;
    ++out.iterations;
  }

  price(run, squared, ladder);
  int chosen = 0;
  for (int i = 1; i < ladder.count; ++i) {
    const bool clearly_better = ladder.rungs[i].cost < (1 - options.min_gain) * ladder.rungs[chosen].cost;
    if (clearly_better && tame(run, ladder.rungs[chosen], ladder.rungs[i], noise, options.threshold_px, fixed, moving))
      chosen = i;
  }
  Transform transform;
  if (!to_transform(ladder.rungs[chosen].model, ladder.rungs[chosen].kind, run.problem.coordinates, transform))
    return out;
  report(run, pairs, transform, options.threshold_px, out, inlier);
  out.found = out.inliers >= minimal_pairs(transform.kind);
  if (out.found) out.T_fixed_moving = transform;
  return out;
}

}  // namespace fastretina::estimating
