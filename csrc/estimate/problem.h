// The pairs as `estimate` and `upgrade` work on them, and what both ask of a finished model. Written once for both
// sides: a Run goes over pairs, on the CPU one after the other (cpu_run.h), on the device by all threads of a block
// (block_run_device.h). Everything else is a handful of numbers that each thread works out for itself.
//
// A Run has
//   int hits(pairs, hypothesis, squared, begin, end), int64 gain(...), void moments(...)   as Kernels
//   Shortlist scan(...)                                                                    see search.h
//   void each(n, f)              f(i) for every i
//   void tally(n, Tally<N>&, f)  f(i, tally) for every i, and what the threads found put together
#pragma once

#include <bit>
#include <cmath>

#include "core/workspace.h"
#include "estimate/estimate.h"
#include "estimate/fit_math.h"
#include "estimate/pair_math.h"

namespace fastretina::estimating {

struct Problem {
  PairArrays scattered;     // golden-ratio order: every stretch of it is a fair sample of all pairs
  PairArrays ordered;       // the caller's order
  Pair* sampled = nullptr;  // the caller's order, for the sampler
  Coordinates coordinates;
  double fixed_spread_sq = 0;  // mean squared distance from the FIXED centre, px^2
  float largest_weight = 0;
  int count = 0;
};

// What a pass over the pairs finds out: sums, extremes, flags.
template <int N>
struct Tally {
  double sum[N] = {};
  double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
  std::uint64_t flags[2] = {};
};

// Arrays for at most `capacity` pairs, to be filled by prepare().
inline Problem take_problem(Workspace& workspace, int capacity) {
  Problem problem;
  const int most = std::min(capacity, kMaxPairs), padded = (most + kPairPadding - 1) / kPairPadding * kPairPadding;
  problem.sampled = workspace.take<Pair>(static_cast<std::size_t>(most));
  for (PairArrays* a : {&problem.ordered, &problem.scattered})
    for (float** values : {&a->x, &a->y, &a->u, &a->v, &a->weight})
      *values = workspace.take<float>(static_cast<std::size_t>(padded));
  return problem;
}

FR_HD void store(const PairArrays& a, int at, const Pair& pair, float weight) {
  a.x[at] = pair.x, a.y[at] = pair.y, a.u[at] = pair.u, a.v[at] = pair.v, a.weight[at] = weight;
}

FR_HD int greatest_divisor(int a, int b) {
  while (b != 0) {
    const int rest = a % b;
    a = b, b = rest;
  }
  return a;
}

// A step near the golden section that visits every pair once.
FR_HD int golden_step(int count) {
  const int section = static_cast<int>(0.6180339887498949 * count);
  int step = section > 1 ? section : 1;
  while (greatest_divisor(step, count) != 1) ++step;
  return step;
}

// Means of both point sets, the MOVING spread rounded up to a power of two, and the FIXED spread.
template <class Run>
FR_SIDE void centre(Run& run, const PointPairs& pairs, Problem& problem) {
  const int n = problem.count;
  Tally<6> all;
  run.tally(n, all, [&](int i, Tally<6>& t) {
    const double x = static_cast<double>(pairs.moving_xy[2 * i]), y = static_cast<double>(pairs.moving_xy[2 * i + 1]);
    const double u = static_cast<double>(pairs.fixed_xy[2 * i]), v = static_cast<double>(pairs.fixed_xy[2 * i + 1]);
    t.sum[0] += x, t.sum[1] += y, t.sum[2] += u, t.sum[3] += v;
    t.sum[4] += x * x + y * y, t.sum[5] += u * u + v * v;
    if (pairs.weight && static_cast<double>(pairs.weight[i]) > t.high[0])
      t.high[0] = static_cast<double>(pairs.weight[i]);
  });
  double* sum = all.sum;
  for (int k = 0; k < 4; ++k) sum[k] /= n;
  const double moving = sum[4] / n - (sum[0] * sum[0] + sum[1] * sum[1]);
  const double fixed = sum[5] / n - (sum[2] * sum[2] + sum[3] * sum[3]);
  problem.fixed_spread_sq = fixed > 0 ? fixed : 0.0;
  int exponent = 0;
  if (moving > 0) std::frexp(std::sqrt(moving), &exponent);
  problem.coordinates = {sum[0], sum[1], std::ldexp(1.0, exponent), sum[2], sum[3]};
  problem.largest_weight = static_cast<float>(all.high[0]);
}

template <class Run>
FR_SIDE void prepare(Run& run, const PointPairs& pairs, Problem& problem) {
  const int n = *pairs.count < kMaxPairs ? *pairs.count : kMaxPairs;
  problem.count = problem.ordered.count = problem.scattered.count = n;
  if (n <= 0) return;
  centre(run, pairs, problem);
  const Coordinates& c = problem.coordinates;
  const double inverse = 1 / c.scale;
  const float largest = problem.largest_weight;
  run.each(n, [&](int i) {
    const Pair pair = {static_cast<float>((static_cast<double>(pairs.moving_xy[2 * i]) - c.moving_x) * inverse),
                       static_cast<float>((static_cast<double>(pairs.moving_xy[2 * i + 1]) - c.moving_y) * inverse),
                       static_cast<float>(static_cast<double>(pairs.fixed_xy[2 * i]) - c.fixed_x),
                       static_cast<float>(static_cast<double>(pairs.fixed_xy[2 * i + 1]) - c.fixed_y)};
    problem.sampled[i] = pair;
    store(problem.ordered, i, pair, !pairs.weight ? 1.0F : largest > 0 ? pairs.weight[i] / largest : 0.0F);
  });
  const auto step = static_cast<std::uint64_t>(golden_step(n));
  run.each(n, [&](int i) {
    const auto from = static_cast<int>(static_cast<std::uint64_t>(i) * step % static_cast<std::uint64_t>(n));
    store(problem.scattered, i, problem.sampled[from], problem.ordered.weight[from]);
  });
  run.each(problem.ordered.padded() - n, [&](int i) {
    const Pair nowhere = {0, 0, 1e9F, 1e9F};
    store(problem.ordered, n + i, nowhere, 0);
    store(problem.scattered, n + i, nowhere, 0);
  });
}

// The sign and size of a model's Jacobian determinant.
FR_HD double area_ratio(const Model& model, double x, double y) {  // FIXED px^2 per (room unit)^2
  Transform t;
  t.kind = model.form == Form::quadratic    ? TransformKind::quadratic
           : model.form == Form::homography ? TransformKind::homography
                                            : TransformKind::affine;
  for (int k = 0; k < 12; ++k) t.p[k] = model.p[k];
  return jacobian(t, {x, y}).determinant();
}

// Local scale at the pairs' centroid within [min_scale, max_scale], and one handedness, the allowed one, at every pair
// within sqrt(squared).
struct Plausible {
  double min_scale = 0, max_scale = 0;
  bool allow_mirror = false;
};
template <class Run>
FR_SIDE bool plausible(Run& run, const Model& model, const Moments& moments, double squared, const Plausible& rules) {
  const bool quadratic = model.form == Form::quadratic;
  const double mass = moments.sum[quadratic ? 0 : 5];
  if (!(mass > 0)) return false;
  const double x = moments.sum[quadratic ? 1 : 2] / mass, y = moments.sum[quadratic ? 2 : 4] / mass;
  const double area = area_ratio(model, x, y);
  const double scale = std::sqrt(std::fabs(area)) / run.problem.coordinates.scale;
  if (!(scale >= rules.min_scale && scale <= rules.max_scale)) return false;
  if (area < 0 && !rules.allow_mirror) return false;
  // A homography keeps its hand on the near side of its pole, where all its inliers are; only a quadratic can fold.
  if (!quadratic) return true;
  const PairArrays& a = run.problem.ordered;
  Tally<1> folds;
  run.tally(a.count, folds, [&](int i, Tally<1>& t) {
    const double px = static_cast<double>(a.x[i]), py = static_cast<double>(a.y[i]);
    double u = 0, v = 0, w = 0;
    map_point<Form::quadratic>(model.p, px, py, u, v, w);
    const double du = u - static_cast<double>(a.u[i]), dv = v - static_cast<double>(a.v[i]);
    if (du * du + dv * dv < squared && !(area_ratio(model, px, py) * area > 0)) t.flags[0] = 1;
  });
  return folds.flags[0] == 0;
}

// Up to `steps` reweighted fits on all pairs, until the map stands still. Returns the moments of the last step.
template <class Run>
FR_SIDE Moments polish(Run& run, const FitRules& rules, double squared, int steps, Model& model, Certainty* certainty) {
  constexpr double kStill = 1e-4;  // px, and px per room unit
  Moments moments;
  for (int i = 0; i < steps; ++i) {
    run.moments(run.problem.ordered, model, squared, 1e30, &moments);
    const Model before = model;
    if (!fit_step(moments, rules, model, certainty)) break;
    double change = 0;
    for (int k = 0; k < 12; ++k) {
      const double moved = std::fabs(model.p[k] - before.p[k]);
      change = moved > change ? moved : change;
    }
    if (change < kStill) break;
  }
  return moments;
}

FR_HD int cell_of(double along, int cells) {
  const int cell = static_cast<int>(along);
  return cell < cells ? cell : cells - 1;
}

// Counts, cost, rms, coverage and flags of a finished map, from the caller's points in double.
template <class Run>
FR_SIDE void report(Run& run, const PointPairs& pairs, const Transform& transform, double threshold_px, Estimate& out,
                    std::uint8_t* inlier) {
  constexpr int kCells = 8;  // a side: 64 of them, a bit each
  const int n = *pairs.count;
  Tally<1> frame;
  run.tally(n, frame, [&](int i, Tally<1>& t) {
    for (int c = 0; c < 2; ++c) {
      const double at = static_cast<double>(pairs.fixed_xy[2 * i + c]);
      t.low[c] = at < t.low[c] ? at : t.low[c], t.high[c] = at > t.high[c] ? at : t.high[c];
    }
  });
  double step[2];
  for (int c = 0; c < 2; ++c) step[c] = frame.high[c] > frame.low[c] ? kCells / (frame.high[c] - frame.low[c]) : 0;
  const double squared = threshold_px * threshold_px;
  Tally<3> all;  // cost, squares and number of the inliers; cells that hold pairs, that hold inliers
  run.tally(n, all, [&](int i, Tally<3>& t) {
    const double u = static_cast<double>(pairs.fixed_xy[2 * i]), v = static_cast<double>(pairs.fixed_xy[2 * i + 1]);
    const Point m = apply(
        transform, {static_cast<double>(pairs.moving_xy[2 * i]), static_cast<double>(pairs.moving_xy[2 * i + 1])});
    const double r = (m.x - u) * (m.x - u) + (m.y - v) * (m.y - v);
    const bool inside = r <= squared;
    t.sum[0] += inside ? r : squared;
    if (inside) t.sum[1] += r, t.sum[2] += 1;
    if (inlier) inlier[i] = inside;
    const int cx = cell_of((u - frame.low[0]) * step[0], kCells), cy = cell_of((v - frame.low[1]) * step[1], kCells);
    const std::uint64_t bit = std::uint64_t{1} << (cy * kCells + cx);
    t.flags[0] |= bit;
    if (inside) t.flags[1] |= bit;
  });
  out.cost = all.sum[0];
  out.inliers = static_cast<int>(all.sum[2]);
  out.rms_px = out.inliers ? std::sqrt(all.sum[1] / out.inliers) : 0;
  const int occupied = std::popcount(all.flags[0]), covered = std::popcount(all.flags[1]);
  out.coverage = occupied ? static_cast<double>(covered) / static_cast<double>(occupied) : 0;
}

}  // namespace fastretina::estimating
