// core/transform.h on (N, 2) float64 points.
#include "bind_transform.h"

#include <iterator>
#include <limits>

#include "core/transform.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kPoints = "an (N, 2) float64 array";

Array<double> checked_points(const py::object& value, const char* argument) {
  auto points = checked<double>(value, argument, 2, kPoints);
  require(points.shape(1) == 2, argument, shape_of(points), kPoints);
  return points;
}

py::array_t<double> apply_points(int kind, const Array<double>& params, const py::object& points) {
  const Transform t = transform_from(kind, params);
  const auto in = checked_points(points, "points");
  py::array_t<double> out({in.shape(0), py::ssize_t{2}});
  const double* from = in.data();
  double* to = out.mutable_data();
  const py::ssize_t count = in.shape(0);
  py::gil_scoped_release unlocked;
  for (py::ssize_t i = 0; i < count; ++i) {
    const Point m = apply(t, {from[2 * i], from[2 * i + 1]});
    to[2 * i] = m.x;
    to[2 * i + 1] = m.y;
  }
  return out;
}

// NaN rows: no solution was found (a fold, or a pole).
py::array_t<double> invert_points(int kind, const Array<double>& params, const py::object& targets,
                                  const py::object& starts) {
  const Transform t = transform_from(kind, params);
  const auto goal = checked_points(targets, "targets");
  const auto begin = checked_points(starts, "starts");
  require(begin.shape(0) == goal.shape(0), "starts", shape_of(begin), "as many rows as targets");
  py::array_t<double> out({goal.shape(0), py::ssize_t{2}});
  const double *g = goal.data(), *s = begin.data();
  double* to = out.mutable_data();
  const py::ssize_t count = goal.shape(0);
  py::gil_scoped_release unlocked;
  for (py::ssize_t i = 0; i < count; ++i) {
    Point q{std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
    invert_point(t, {g[2 * i], g[2 * i + 1]}, {s[2 * i], s[2 * i + 1]}, q);
    to[2 * i] = q.x;
    to[2 * i + 1] = q.y;
  }
  return out;
}

py::array_t<double> jacobian_at(int kind, const Array<double>& params, const py::object& points) {
  const Transform t = transform_from(kind, params);
  const auto in = checked_points(points, "points");
  py::array_t<double> out({in.shape(0), py::ssize_t{2}, py::ssize_t{2}});
  const double* from = in.data();
  double* to = out.mutable_data();
  for (py::ssize_t i = 0; i < in.shape(0); ++i) {
    const Jacobian j = jacobian(t, {from[2 * i], from[2 * i + 1]});
    to[4 * i] = j.a, to[4 * i + 1] = j.b, to[4 * i + 2] = j.c, to[4 * i + 3] = j.d;
  }
  return out;
}

// None where the result is not of a kind there is.
py::object inverse(int kind, const Array<double>& params) {
  Transform result;
  if (!invert(transform_from(kind, params), result)) return py::none();
  return transform_to(result);
}

py::object composed(int outer_kind, const Array<double>& outer, int inner_kind, const Array<double>& inner) {
  Transform result;
  if (!compose(transform_from(outer_kind, outer), transform_from(inner_kind, inner), result)) return py::none();
  return transform_to(result);
}

}  // namespace

void bind_transform(py::module_& m) {
  py::tuple kinds(std::size(kKindNames));
  for (std::size_t i = 0; i < std::size(kKindNames); ++i) kinds[i] = kKindNames[i];
  m.attr("TRANSFORM_KINDS") = kinds;
  m.def("transform_apply", apply_points, py::arg("kind"), py::arg("params"), py::arg("points"));
  m.def("transform_invert_points", invert_points, py::arg("kind"), py::arg("params"), py::arg("targets"),
        py::arg("starts"));
  m.def("transform_jacobian", jacobian_at, py::arg("kind"), py::arg("params"), py::arg("points"));
  m.def("transform_invert", inverse, py::arg("kind"), py::arg("params"));
  m.def("transform_compose", composed, py::arg("outer_kind"), py::arg("outer_params"), py::arg("inner_kind"),
        py::arg("inner_params"));
  m.def(
      "transform_scaling", [](double scale, double tx, double ty) { return transform_to(scaling(scale, tx, ty)); },
      py::arg("scale"), py::arg("tx"), py::arg("ty"));
}

}  // namespace fastretina::bindings
