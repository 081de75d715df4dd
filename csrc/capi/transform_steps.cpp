#include "capi/transform_steps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "pipeline.h"

namespace fastretina::capi {
namespace {

constexpr double kShapeTolerance = 1e-9;  // how far rounding may take a similarity from being one
constexpr double kNegligible = 1e-12;     // of a homography's last entry, beside its largest
constexpr int kMatrix = 9, kQuadratic = 12;

TransformKind special_kind(const double* m) {
  if (!(m[6] == 0 && m[7] == 0 && m[8] == 1)) return TransformKind::homography;
  if (m[0] == 1 && m[1] == 0 && m[2] == 0 && m[3] == 0 && m[4] == 1 && m[5] == 0) return TransformKind::identity;
  const double size = kShapeTolerance * std::max({std::abs(m[0]), std::abs(m[1]), std::abs(m[3]), std::abs(m[4])});
  const bool rotation = std::abs(m[0] - m[4]) <= size && std::abs(m[1] + m[3]) <= size;
  const bool mirrored = std::abs(m[0] + m[4]) <= size && std::abs(m[1] - m[3]) <= size;
  return rotation || mirrored ? TransformKind::similarity : TransformKind::affine;
}

// Newton's method from the inverse of the affine part, as in Python.
Point solve_quadratic(const Transform& map, Point target) {
  const double* p = map.p;
  Jacobian j{p[1], p[2], p[7], p[8]};
  if (!(std::abs(j.determinant()) > 1e-12)) j = {};
  const double ex = target.x - p[0], ey = target.y - p[6], determinant = j.determinant();
  const Point start{(j.d * ex - j.b * ey) / determinant, (j.a * ey - j.c * ex) / determinant};
  Point solution;
  if (invert_point(map, target, start, solution)) return solution;
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  return {kNaN, kNaN};
}

}  // namespace

void TransformSteps::append(const Step& step) {
  require(count_ < kCapacity, "transform", "too many steps", "16 or fewer");
  steps_[count_++] = step;
}

TransformSteps steps_of(const Candidate& candidate) {
  TransformSteps steps;
  if (candidate.found) steps.append({checked(candidate.T_fixed_moving)});
  return steps;
}

fastretina_kind kind_of(const TransformSteps& steps) {
  const auto list = steps.list();
  if (list.empty()) return FASTRETINA_EMPTY;
  if (list.size() > 1 || list[0].inverted) return FASTRETINA_COMPOSITE;
  return static_cast<fastretina_kind>(list[0].map.kind);
}

const char* kind_name(TransformKind kind) {
  constexpr const char* kNames[] = {"identity", "similarity", "affine", "homography", "quadratic"};
  return kNames[static_cast<int>(kind)];
}

Point apply(const TransformSteps& steps, Point p) {
  const auto list = steps.list();
  for (auto step = list.rbegin(); step != list.rend(); ++step)
    p = step->inverted ? solve_quadratic(step->map, p) : fastretina::apply(step->map, p);
  return p;
}

TransformSteps inverse(const TransformSteps& steps) {
  TransformSteps out;
  const auto list = steps.list();
  for (auto step = list.rbegin(); step != list.rend(); ++step) {
    if (step->map.kind == TransformKind::quadratic) {
      out.append({step->map, !step->inverted});
      continue;
    }
    Transform back;
    require(invert(step->map, back), "transform", "a singular matrix", "an invertible transform");
    out.append({checked(back)});
  }
  return out;
}

Transform single_map(const TransformSteps& steps) {
  const auto list = steps.list();
  require(!list.empty(), "transform", "an empty one", "a transform");
  require(list.size() == 1 && !list[0].inverted, "transform", "a composite", "a transform of one map");
  return list[0].map;
}

Transform checked(const Transform& map) {
  Transform out;
  out.kind = map.kind;
  const int count = map.kind == TransformKind::quadratic ? kQuadratic : kMatrix;
  double largest = 0;
  for (int i = 0; i < count; ++i) {
    require(std::isfinite(map.p[i]), "parameters", "NaN or infinity", "finite numbers");
    largest = std::max(largest, std::abs(map.p[i]));
  }
  const double last = map.p[8];
  const bool rescale = map.kind == TransformKind::homography && last != 1 && std::abs(last) > kNegligible * largest;
  for (int i = 0; i < count; ++i) out.p[i] = (rescale ? map.p[i] / last : map.p[i]) + 0.0;
  const bool is_matrix = static_cast<int>(map.kind) < static_cast<int>(TransformKind::homography);
  if (is_matrix && static_cast<int>(special_kind(out.p)) > static_cast<int>(map.kind))
    throw InvalidArgument("parameters", std::string("a matrix that is no ") + kind_name(map.kind),
                          "one of the transform's kind");
  return out;
}

}  // namespace fastretina::capi
