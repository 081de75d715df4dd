#include "estimate/problem.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/transform.h"

namespace fastretina::estimating {
namespace {

PairArrays take_arrays(Workspace& workspace, int count) {
  PairArrays a;
  a.count = count;
  const auto n = static_cast<std::size_t>(a.padded());
  a.x = workspace.take<float>(n), a.y = workspace.take<float>(n), a.u = workspace.take<float>(n);
  a.v = workspace.take<float>(n), a.weight = workspace.take<float>(n);
  return a;
}

void store(const PairArrays& a, int at, const Pair& pair, float weight) {
  const_cast<float*>(a.x)[at] = pair.x, const_cast<float*>(a.y)[at] = pair.y;
  const_cast<float*>(a.u)[at] = pair.u, const_cast<float*>(a.v)[at] = pair.v;
  const_cast<float*>(a.weight)[at] = weight;
}

// A step near the golden section that visits every pair once.
int golden_step(int count) {
  int step = std::max(1, static_cast<int>(0.6180339887498949 * count));
  while (std::gcd(step, count) != 1) ++step;
  return step;
}

// Means of both point sets, the MOVING spread rounded up to a power of two, and the FIXED spread.
void centre(const PointPairs& pairs, Problem& problem) {
  const int n = problem.count;
  double sum[4] = {}, square[2] = {};
  for (int i = 0; i < n; ++i) {
    const double x = static_cast<double>(pairs.moving_xy[2 * i]), y = static_cast<double>(pairs.moving_xy[2 * i + 1]);
    const double u = static_cast<double>(pairs.fixed_xy[2 * i]), v = static_cast<double>(pairs.fixed_xy[2 * i + 1]);
    sum[0] += x, sum[1] += y, sum[2] += u, sum[3] += v;
    square[0] += x * x + y * y, square[1] += u * u + v * v;
  }
  for (double& s : sum) s /= n;
  const double moving = square[0] / n - (sum[0] * sum[0] + sum[1] * sum[1]);
  problem.fixed_spread_sq = std::max(0.0, square[1] / n - (sum[2] * sum[2] + sum[3] * sum[3]));
  int exponent = 0;
  if (moving > 0) std::frexp(std::sqrt(moving), &exponent);
  problem.coordinates = {sum[0], sum[1], std::ldexp(1.0, exponent), sum[2], sum[3]};
}

}  // namespace

Problem prepare(Workspace& workspace, const PointPairs& pairs) {
  Problem problem;
  const int n = problem.count = std::min(*pairs.count, kMaxPairs);
  if (n <= 0) return problem;
  centre(pairs, problem);
  const Coordinates& c = problem.coordinates;
  const double inverse = 1 / c.scale;
  float largest = 0;
  if (pairs.weight) largest = *std::max_element(pairs.weight, pairs.weight + n);

  Pair* sampled = workspace.take<Pair>(static_cast<std::size_t>(n));
  problem.sampled = sampled;
  problem.ordered = take_arrays(workspace, n);
  problem.scattered = take_arrays(workspace, n);
  for (int i = 0; i < n; ++i) {
    const Pair pair = {static_cast<float>((static_cast<double>(pairs.moving_xy[2 * i]) - c.moving_x) * inverse),
                       static_cast<float>((static_cast<double>(pairs.moving_xy[2 * i + 1]) - c.moving_y) * inverse),
                       static_cast<float>(static_cast<double>(pairs.fixed_xy[2 * i]) - c.fixed_x),
                       static_cast<float>(static_cast<double>(pairs.fixed_xy[2 * i + 1]) - c.fixed_y)};
    sampled[i] = pair;
    store(problem.ordered, i, pair, !pairs.weight ? 1.0F : largest > 0 ? pairs.weight[i] / largest : 0.0F);
  }
  const int step = golden_step(n);
  for (int i = 0, from = 0; i < n; ++i, from = from + step < n ? from + step : from + step - n)
    store(problem.scattered, i, sampled[from], problem.ordered.weight[from]);
  for (int i = n; i < problem.ordered.padded(); ++i) {
    constexpr Pair kNowhere = {0, 0, 1e9F, 1e9F};
    store(problem.ordered, i, kNowhere, 0);
    store(problem.scattered, i, kNowhere, 0);
  }
  return problem;
}

double area_ratio(const Model& model, double x, double y) {
  Transform t;
  t.kind = model.form == Form::quadratic    ? TransformKind::quadratic
           : model.form == Form::homography ? TransformKind::homography
                                            : TransformKind::affine;
  std::copy_n(model.p, 12, t.p);
  return jacobian(t, {x, y}).determinant();
}

bool plausible(const Problem& problem, const Model& model, const Moments& moments, double squared,
               const Plausible& rules) {
  const bool quadratic = model.form == Form::quadratic;
  const double mass = moments.sum[quadratic ? 0 : 5];
  if (!(mass > 0)) return false;
  const double x = moments.sum[quadratic ? 1 : 2] / mass, y = moments.sum[quadratic ? 2 : 4] / mass;
  const double area = area_ratio(model, x, y);
  const double scale = std::sqrt(std::abs(area)) / problem.coordinates.scale;
  if (!(scale >= rules.min_scale && scale <= rules.max_scale)) return false;
  if (area < 0 && !rules.allow_mirror) return false;
  // A homography keeps its hand on the near side of its pole, where all its inliers are; only a quadratic can fold.
  if (!quadratic) return true;
  const PairArrays& a = problem.ordered;
  for (int i = 0; i < a.count; ++i) {
    const double px = static_cast<double>(a.x[i]), py = static_cast<double>(a.y[i]);
    double u = 0, v = 0, w = 0;
    map_point<Form::quadratic>(model.p, px, py, u, v, w);
    const double du = u - static_cast<double>(a.u[i]), dv = v - static_cast<double>(a.v[i]);
    if (du * du + dv * dv < squared && !(area_ratio(model, px, py) * area > 0)) return false;
  }
  return true;
}

Moments polish(const Kernels& kernel, const Problem& problem, const FitRules& rules, double squared, int steps,
               Model& model, Certainty* certainty) {
  constexpr double kStill = 1e-4;  // px, and px per room unit
  Moments moments;
  for (int i = 0; i < steps; ++i) {
    kernel.moments(problem.ordered, model, squared, 1e30, &moments);
    const Model before = model;
    if (!fit_step(moments, rules, model, certainty)) break;
    double change = 0;
    for (int k = 0; k < 12; ++k) change = std::max(change, std::abs(model.p[k] - before.p[k]));
    if (change < kStill) break;
  }
  return moments;
}

void report(const PointPairs& pairs, const Transform& transform, double threshold_px, Estimate* out,
            std::uint8_t* inlier) {
  constexpr int kCells = 8;
  const int n = *pairs.count;
  double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < 2; ++c) {
      const double at = static_cast<double>(pairs.fixed_xy[2 * i + c]);
      low[c] = std::min(low[c], at), high[c] = std::max(high[c], at);
    }
  std::uint8_t cells[kCells * kCells] = {};  // 1: holds pairs, 2: holds inliers
  double step[2];
  for (int c = 0; c < 2; ++c) step[c] = high[c] > low[c] ? kCells / (high[c] - low[c]) : 0;
  const double squared = threshold_px * threshold_px;
  double sum = 0;
  out->cost = 0, out->inliers = 0;
  for (int i = 0; i < n; ++i) {
    const double u = static_cast<double>(pairs.fixed_xy[2 * i]), v = static_cast<double>(pairs.fixed_xy[2 * i + 1]);
    const Point m = apply(
        transform, {static_cast<double>(pairs.moving_xy[2 * i]), static_cast<double>(pairs.moving_xy[2 * i + 1])});
    const double r = (m.x - u) * (m.x - u) + (m.y - v) * (m.y - v);
    const bool inside = r <= squared;
    out->cost += inside ? r : squared;
    if (inside) sum += r, ++out->inliers;
    if (inlier) inlier[i] = inside;
    const int cx = std::min(kCells - 1, static_cast<int>((u - low[0]) * step[0]));
    const int cy = std::min(kCells - 1, static_cast<int>((v - low[1]) * step[1]));
    cells[cy * kCells + cx] = static_cast<std::uint8_t>(cells[cy * kCells + cx] | (inside ? 3 : 1));
  }
  out->rms_px = out->inliers ? std::sqrt(sum / out->inliers) : 0;
  const auto occupied = std::count_if(cells, cells + kCells * kCells, [](int c) { return c != 0; });
  const auto covered = std::count_if(cells, cells + kCells * kCells, [](int c) { return c == 3; });
  out->coverage = occupied ? static_cast<double>(covered) / static_cast<double>(occupied) : 0;
}

}  // namespace fastretina::estimating
