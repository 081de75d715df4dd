#include "candidate.h"

#include <algorithm>
#include <cmath>

namespace fastretina {
namespace {

constexpr double kPolishKeeps = 0.95;  // of the ridge correlation

void to_input(const Transform& T_network_input, const float* from, const PointPairs& pairs, std::vector<float>& to) {
  Transform back;
  invert(T_network_input, back);
  const auto n = static_cast<std::size_t>(*pairs.count);
  to.reserve(2 * static_cast<std::size_t>(pairs.capacity));  // a later pair may have more of them
  to.resize(2 * n);
  for (std::size_t i = 0; i < n; ++i) {
    const Point q = apply(back, {from[2 * i], from[2 * i + 1]});
    to[2 * i] = static_cast<float>(q.x);
    to[2 * i + 1] = static_cast<float>(q.y);
  }
}

}  // namespace

void judge(const RungMatches& matches, const Frames& frames, const QualityOptions& options, Candidate& out) {
  const PointPairs& pairs = matches.pairs;
  out.grid = {};
  out.quality = quality(out.measured, options);
  out.found = out.measured.found && frames.to_input(out.measured.T_fixed_moving, out.T_fixed_moving);
  to_input(frames.fixed, pairs.fixed_xy, pairs, out.fixed_xy);
  to_input(frames.moving, pairs.moving_xy, pairs, out.moving_xy);
  out.score.reserve(static_cast<std::size_t>(pairs.capacity));
  out.inlier.reserve(static_cast<std::size_t>(pairs.capacity));
  out.score.assign(matches.score, matches.score + *pairs.count);
  out.inlier.assign(matches.inlier, matches.inlier + *pairs.count);
}

double magnification(const Candidate& best, const Frames& seen) {
  constexpr double kMost = 4;
  Point sum;
  int count = 0;
  for (std::size_t i = 0; i < best.inlier.size(); ++i)
    if (best.inlier[i])
      sum.x += static_cast<double>(best.moving_xy[2 * i]), sum.y += static_cast<double>(best.moving_xy[2 * i + 1]), ++count;
  Transform T;
  if (count == 0 || !seen.to_network(best.T_fixed_moving, T)) return 1;
  const Point middle = apply(seen.moving, {sum.x / count, sum.y / count});
  const double area = std::abs(jacobian(T, middle).determinant());
  return std::isfinite(area) ? std::clamp(std::sqrt(area), 1 / kMost, kMost) : 1;
}

void take_polished(const Polished& polished, const QualityOptions& options, Candidate& best) {
  // At the coarser scale the attempt was the best there is: a little less is expected, much less is another place.
  if (polished.agreement.score < kPolishKeeps * best.measured.ridge_correlation) return;
  QualityInputs measured = best.measured;
  measured.T_fixed_moving = polished.T_network;
  measured.ridge_correlation = polished.agreement.score;
  measured.overlap_px = polished.agreement.overlap_px;
  const Quality found = quality(measured, options);
  if (found.status != Status::ok) return;
  best.quality = found;
  best.measured = measured;
  best.T_fixed_moving = polished.T_input;
}

void take_field(const Deformed& deformed, const QualityOptions& options, Candidate& best) {
  const Field& field = deformed.T_network.field;
  if (field.empty()) return;
  QualityInputs measured = best.measured;
  measured.T_fixed_moving = deformed.T_network.base;
  measured.field = field;
  measured.fixed = deformed.fixed;
  measured.moving = deformed.moving;
  if (quality(measured, options).status == Status::implausible) return;
  const double *N = deformed.frames.fixed.p, scale = N[0];
  best.grid = field;
  best.grid.x0 = (field.x0 - N[2]) / scale;
  best.grid.y0 = (field.y0 - N[5]) / scale;
  best.grid.step_x /= scale;
  best.grid.step_y /= scale;
  for (int i = 0; i < 2 * field.columns * field.rows; ++i)
    best.control[static_cast<std::size_t>(i)] = field.control[i] / scale;
}

}  // namespace fastretina
