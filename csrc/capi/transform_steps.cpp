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

// From where the field would have come without changing on the way, as in Python.
Point solve_field(const Field& field, Point target) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const Point d = displacement(field, target);
  Point solution;
  if (invert_point(field, target, {target.x - d.x, target.y - d.y}, solution)) return solution;
  return {kNaN, kNaN};
}

Point apply(const Step& step, Point p) {
  if (step.dense()) return step.inverted ? solve_field(step.field(), p) : fastretina::apply(step.field(), p);
  return step.inverted ? solve_quadratic(step.map, p) : fastretina::apply(step.map, p);
}

}  // namespace

Field Step::field() const {
  return {control.data(),
          columns,
          rows,
          rectangle[0],
          rectangle[1],
          (rectangle[2] - rectangle[0]) / (columns - 1),
          (rectangle[3] - rectangle[1]) / (rows - 1)};
}

Step& TransformSteps::add() {
  require(count_ < kCapacity, "transform", "too many steps", "16 or fewer");
  return steps_[count_++];
}

void TransformSteps::append(const Transform& map) {
  const Transform good = checked(map);
  Step& step = add();
  step.map = good;
  step.control.clear();
  step.inverted = false;
}

void set_steps(const Candidate& candidate, TransformSteps& steps) {
  steps.clear();
  if (!candidate.found) return;
  const Field field = candidate.field();
  if (!field.empty()) {
    Step& step = steps.add();
    step.rows = field.rows;
    step.columns = field.columns;
    step.rectangle = {field.x0, field.y0, field.x0 + (field.columns - 1) * field.step_x,
                      field.y0 + (field.rows - 1) * field.step_y};
    step.control.assign(field.control, field.control + std::ptrdiff_t{2} * field.rows * field.columns);
    step.inverted = false;
    for (double& d : step.control) d += 0.0;  // no negative zeros, as in checked()
    for (double& edge : step.rectangle) edge += 0.0;
  }
  steps.append(candidate.T_fixed_moving);
}

fastretina_kind kind_of(const Step& step) {
  return step.dense() ? FASTRETINA_DENSE : static_cast<fastretina_kind>(step.map.kind);
}

fastretina_kind kind_of(const TransformSteps& steps) {
  const auto list = steps.list();
  if (list.empty()) return FASTRETINA_EMPTY;
  return list.size() > 1 || list[0].inverted ? FASTRETINA_COMPOSITE : kind_of(list[0]);
}

const char* kind_name(fastretina_kind kind) {
  constexpr const char* kNames[] = {"identity", "similarity", "affine", "homography", "quadratic", "dense"};
  return kNames[kind];
}

Point apply(const TransformSteps& steps, Point p) {
  const auto list = steps.list();
  for (auto step = list.rbegin(); step != list.rend(); ++step) p = apply(*step, p);
  return p;
}

TransformSteps inverse(const TransformSteps& steps) {
  TransformSteps out;
  const auto list = steps.list();
  for (auto step = list.rbegin(); step != list.rend(); ++step) {
    if (step->dense() || step->map.kind == TransformKind::quadratic) {
      Step& flipped = out.add();
      flipped = *step;
      flipped.inverted = !step->inverted;
      continue;
    }
    Transform back;
    require(invert(step->map, back), "transform", "a singular matrix", "an invertible transform");
    out.append(back);
  }
  return out;
}

Deformation deformation(const TransformSteps& steps) {
  const auto list = steps.list();
  const bool plain = std::none_of(list.begin(), list.end(), [](const Step& s) { return s.inverted; });
  const bool field_first = !list.empty() && list[0].dense();
  const std::size_t maps = list.size() - (field_first ? 1 : 0);
  require(!list.empty() && plain && maps <= 1 && (maps == 0 || !list.back().dense()), "transform",
          "an empty one, an inverse or a longer composite", "one map, a dense one, or a dense one after a map");
  return {maps == 1 ? list.back().map : Transform{}, field_first ? list[0].field() : Field{}};
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
    throw InvalidArgument("parameters",
                          std::string("a matrix that is no ") + kind_name(static_cast<fastretina_kind>(map.kind)),
                          "one of the transform's kind");
  return out;
}

void check_dense(Step& step) {
  for (double& d : step.control) {
    require(std::isfinite(d), "parameters", "NaN or infinity", "finite numbers");
    d += 0.0;
  }
  for (double& edge : step.rectangle) {
    require(std::isfinite(edge), "rectangle", "NaN or infinity", "finite numbers");
    edge += 0.0;
  }
  const Rectangle& r = step.rectangle;
  require(step.rows >= 2 && step.columns >= 2, "parameters", "fewer rows or columns", "2 or more of each");
  require(r[0] < r[2] && r[1] < r[3] && std::isfinite(r[2] - r[0]) && std::isfinite(r[3] - r[1]), "rectangle",
          "an empty one", "x0 < x1 and y0 < y1");
  require(least_jacobian(step.field()) > 0, "parameters", "a field that folds",
          "a Jacobian determinant above 0 everywhere");
}

}  // namespace fastretina::capi
