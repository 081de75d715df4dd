#include "array.h"
#include "describe/describe.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kMap = "a non-empty (D, h, w) float32 array, in any memory order";

// Strides are taken as they are: an (h, w, D) map enters as its transposed view.
DenseMap dense_map(const py::object& value) {
  require(py::isinstance<py::array>(value), "map", py::str(py::type::of(value)).cast<std::string>(), kMap);
  const auto array = py::reinterpret_borrow<py::array>(value);
  require(py::isinstance<py::array_t<float>>(array) && array.ndim() == 3 && array.size() > 0, "map", shape_of(array),
          kMap);
  require(is_aligned(array), "map", "misaligned memory", kMap);
  constexpr py::ssize_t kBytes = sizeof(float);
  for (int axis = 0; axis < 3; ++axis)
    require(array.strides(axis) % kBytes == 0, "map", "strides that are no multiple of 4 bytes", kMap);
  return {static_cast<const float*>(array.data()),
          static_cast<int>(array.shape(0)),
          static_cast<int>(array.shape(1)),
          static_cast<int>(array.shape(2)),
          array.strides(0) / kBytes,
          array.strides(1) / kBytes,
          array.strides(2) / kBytes};
}

py::array_t<float> describe(Session& session, const py::object& map_value, const py::object& xy_value) {
  constexpr const char* kPoints = "an (N, 2) float32 array";
  const DenseMap map = dense_map(map_value);
  auto xy = checked<float>(xy_value, "xy", 2, kPoints);
  require(xy.shape(1) == 2, "xy", shape_of(xy), kPoints);
  require_finite(xy.data(), xy.size(), "xy");
  int count = static_cast<int>(xy.shape(0));
  Array<float> rows({xy.shape(0), static_cast<py::ssize_t>(map.dims)});
  Keypoints keypoints;
  keypoints.xy = const_cast<float*>(xy.data());  // only read
  keypoints.count = &count;
  keypoints.capacity = count;
  float* out = rows.mutable_data();
  {
    py::gil_scoped_release unlocked;
    cpu::describe(session.context, session.workspace, map, keypoints, out);
  }
  return rows;
}

}  // namespace

void bind_describe(py::module_& m) { m.def("describe", describe, py::arg("session"), py::arg("map"), py::arg("xy")); }

}  // namespace fastretina::bindings
