// A Transform crosses into Python as two values: `kind` (the number of TransformKind) and `params` ((12,) float64, the
// layout of Transform::p).
#pragma once

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "array.h"
#include "core/types.h"

namespace fastretina::bindings {

// The names of TransformKind, by number; Python has them as TRANSFORM_KINDS.
constexpr const char* kKindNames[] = {"identity", "similarity", "affine", "homography", "quadratic"};

inline Transform transform_from(int kind, const Array<double>& params) {
  require(kind >= 0 && kind <= static_cast<int>(TransformKind::quadratic), "kind", std::to_string(kind),
          "0 (identity), 1 (similarity), 2 (affine), 3 (homography) or 4 (quadratic)");
  require(params.ndim() == 1 && params.shape(0) == 12, "params", shape_of(params), "a (12,) float64 array");
  Transform t;
  t.kind = static_cast<TransformKind>(kind);
  std::copy_n(params.data(), 12, t.p);
  for (const double value : t.p)
    if (!std::isfinite(value)) throw InvalidArgument("params", "NaN or infinity", "finite values");
  return t;
}

// A Field crosses as None or two values: `control` ((rows, columns, 2) float64) and `rectangle` ((x0, y0, x1, y1), px:
// where its corner control points lie).
struct HeldField {
  Array<double> control;
  Field field;
};

inline void hold(const py::object& value, HeldField& held) {
  constexpr const char* kWanted = "None, or a (rows, columns, 2) float64 array and its rectangle";
  if (value.is_none()) return;
  require(py::isinstance<py::tuple>(value) && py::len(value) == 2, "field", py::str(py::type::of(value)), kWanted);
  const auto parts = value.cast<py::tuple>();
  held.control = checked<double>(parts[0], "field", 3, kWanted);
  const auto [x0, y0, x1, y1] = parts[1].cast<std::tuple<double, double, double, double>>();
  const py::ssize_t rows = held.control.shape(0), columns = held.control.shape(1);
  require(rows >= 2 && columns >= 2 && rows <= 32768 && columns <= 32768 && held.control.shape(2) == 2, "field",
          shape_of(held.control), kWanted);
  for (py::ssize_t i = 0; i < held.control.size(); ++i)
    require(std::isfinite(held.control.data()[i]), "field", "NaN or infinity", "finite displacements");
  require(std::isfinite(x1 - x0) && std::isfinite(y1 - y0) && x0 < x1 && y0 < y1, "field", "an empty rectangle",
          "x0 < x1 and y0 < y1");
  held.field = {held.control.data(), static_cast<int>(columns), static_cast<int>(rows), x0, y0,
                (x1 - x0) / static_cast<double>(columns - 1), (y1 - y0) / static_cast<double>(rows - 1)};
}

// (control, rectangle), or None where there is none.
inline py::object field_to(const Field& f) {
  if (f.empty()) return py::none();
  return py::make_tuple(py::array_t<double>({f.rows, f.columns, 2}, f.control),
                        py::make_tuple(f.x0, f.y0, f.x0 + (f.columns - 1) * f.step_x, f.y0 + (f.rows - 1) * f.step_y));
}

// (kind, params)
inline py::tuple transform_to(const Transform& t) {
  return py::make_tuple(static_cast<int>(t.kind), py::array_t<double>(12, t.p));
}

}  // namespace fastretina::bindings
