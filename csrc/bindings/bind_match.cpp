// Rooms match and match_guided on NumPy arrays.
#include <algorithm>
#include <string>

#include "bind_transform.h"
#include "match/match.h"
#include "placed.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kRows = "an (N, D) float32 array of unit rows, D >= 1";

// Sixteen partial sums, so that the check costs no more than reading the rows. A NaN or infinity fails it too.
bool is_unit_or_zero(const float* row, py::ssize_t dims) {
  float part[16] = {};
  py::ssize_t k = 0;
  for (; k + 16 <= dims; k += 16)
    for (int c = 0; c < 16; ++c) part[c] += row[k + c] * row[k + c];
  for (; k < dims; ++k) part[k % 16] += row[k] * row[k];
  float sum = 0;
  for (const float p : part) sum += p;
  return std::fabs(sum - 1.0f) <= 0.01f || sum == 0.0f;
}

struct Rows {
  Rows(Session& session, const py::object& value, const char* argument)
      : array(session, value, argument, 2, kRows),
        capacity(static_cast<int>(array.shape(0))),
        count(session, static_cast<int>(array.shape(0))) {
    require(array.shape(1) >= 1, argument, shape_of(array), kRows);
    for (int i = 0; i < capacity && session.device == nullptr; ++i)
      if (!is_unit_or_zero(array.data() + i * array.shape(1), array.shape(1)))
        throw InvalidArgument(argument, "row " + std::to_string(i) + " of another norm, or not finite",
                              "rows of L2 norm 1 (within 0.5 %) or 0");
  }
  Descriptors view() { return {array.data(), count.at(), capacity, static_cast<int>(array.shape(1))}; }
  Input<float> array;
  int capacity;
  Place<int> count;
};

Input<float> checked_points(const Session& session, const py::object& value, const char* argument, int count) {
  constexpr const char* kPoints = "an (N, 2) float32 array, one point a descriptor";
  Input<float> points(session, value, argument, 2, kPoints);
  require(points.shape(1) == 2 && points.shape(0) == count, argument, shape_of(points), kPoints);
  require_finite(points, argument);
  return points;
}

// Room for the answer, and the answer as Python gets it.
struct Answer {
  Answer(Session& session, int capacity)
      : fixed(session, {capacity}),
        moving(session, {capacity}),
        score(session, {capacity}),
        count(session),
        capacity_(capacity) {}
  Matches view() { return {fixed.data(), moving.data(), score.data(), count.at(), capacity_}; }
  py::tuple result() {
    const int n = count.get();
    return py::make_tuple(fixed.first(n), moving.first(n), score.first(n));
  }
  OutputOf<int> fixed, moving;
  OutputOf<float> score;
  Place<int> count;

 private:
  int capacity_;
};

void require_same_dims(const Rows& fixed, const Rows& moving) {
  require(fixed.array.shape(1) == moving.array.shape(1), "moving", shape_of(moving.array), "as many columns as fixed");
}

const char* precision_name(Precision precision) {
  return precision == Precision::bf16 ? "bf16" : precision == Precision::i8 ? "i8" : "f32";
}

Precision precision_from(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  if (name == "i8") return Precision::i8;
  throw InvalidArgument("precision", name, "'f32', 'bf16' or 'i8'");
}

void require_similarity(float value) {
  require(value >= -1.0f && value <= 1.0f, "min_similarity", std::to_string(value), "a number in [-1, 1]");
}

py::tuple match_rows(Session& session, const py::object& fixed_object, const py::object& moving_object,
                     const std::string& precision, float min_similarity, float ratio) {
  const Workspace::Frame frame(session.workspace);
  Rows fixed(session, fixed_object, "fixed"), moving(session, moving_object, "moving");
  require_same_dims(fixed, moving);
  require_similarity(min_similarity);
  require(ratio > 0.0f && ratio <= 1.0f, "ratio", std::to_string(ratio), "a number in (0, 1]");
  MatchOptions options;
  options.precision = precision_from(precision);
  options.min_similarity = min_similarity;
  options.ratio = ratio;
  Answer answer(session, std::min(fixed.capacity, moving.capacity));
  const Matches out = answer.view();
  {
    py::gil_scoped_release unlocked;
    session.backend.match(session.context, session.workspace, fixed.view(), moving.view(), options, out);
  }
  return answer.result();
}

py::tuple match_guided_rows(Session& session, const py::object& fixed_object, const py::object& moving_object,
                            const py::object& fixed_points, const py::object& moving_points, int kind,
                            const Array<double>& params, float radius_px, float min_similarity) {
  const Workspace::Frame frame(session.workspace);
  Rows fixed(session, fixed_object, "fixed"), moving(session, moving_object, "moving");
  require_same_dims(fixed, moving);
  auto fixed_xy = checked_points(session, fixed_points, "fixed_points", fixed.capacity);
  auto moving_xy = checked_points(session, moving_points, "moving_points", moving.capacity);
  Place<Transform> transform(session, transform_from(kind, params));
  require(radius_px > 0.0f && std::isfinite(radius_px), "radius_px", std::to_string(radius_px), "a positive number");
  require_similarity(min_similarity);
  GuidedMatchOptions options;
  options.radius_px = radius_px;
  options.min_similarity = min_similarity;
  Answer answer(session, std::min(fixed.capacity, moving.capacity));
  const Matches out = answer.view();
  // Rooms read Keypoints of another room, whose fields are mutable; match_guided only reads.
  const Keypoints at_fixed{const_cast<float*>(fixed_xy.data()), nullptr, fixed.count.at(), fixed.capacity};
  const Keypoints at_moving{const_cast<float*>(moving_xy.data()), nullptr, moving.count.at(), moving.capacity};
  {
    py::gil_scoped_release unlocked;
    session.backend.match_guided(session.context, session.workspace, fixed.view(), moving.view(), at_fixed, at_moving,
                                 *transform.at(), options, out);
  }
  return answer.result();
}

}  // namespace

void bind_match(py::module_& m) {
  const MatchOptions match;
  const GuidedMatchOptions guided;
  using py::literals::operator""_a;
  m.attr("MATCH_DEFAULTS") = py::dict("precision"_a = precision_name(match.precision),
                                      "min_similarity"_a = match.min_similarity, "ratio"_a = match.ratio);
  m.attr("GUIDED_MATCH_DEFAULTS") =
      py::dict("radius_px"_a = guided.radius_px, "min_similarity"_a = guided.min_similarity);
  m.def("match", match_rows, py::arg("session"), py::arg("fixed"), py::arg("moving"), py::kw_only(),
        py::arg("precision") = precision_name(match.precision), py::arg("min_similarity") = match.min_similarity,
        py::arg("ratio") = match.ratio);
  m.def("match_guided", match_guided_rows, py::arg("session"), py::arg("fixed"), py::arg("moving"),
        py::arg("fixed_points"), py::arg("moving_points"), py::arg("kind"), py::arg("params"), py::kw_only(),
        py::arg("radius_px") = guided.radius_px, py::arg("min_similarity") = guided.min_similarity);
}

}  // namespace fastretina::bindings
