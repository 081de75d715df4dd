// A Transform crosses into Python as two values: `kind` (the number of TransformKind) and `params` ((12,) float64, the
// layout of Transform::p).
#pragma once

#include <algorithm>
#include <string>

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

// (kind, params)
inline py::tuple transform_to(const Transform& t) {
  return py::make_tuple(static_cast<int>(t.kind), py::array_t<double>(12, t.p));
}

}  // namespace fastretina::bindings
