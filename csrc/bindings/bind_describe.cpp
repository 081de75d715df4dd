#include "describe/describe.h"
#include "placed.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kMap = "a non-empty (D, h, w) float32 array, in any memory order";

// Strides are taken as they are: an (h, w, D) map enters as its transposed view.
DenseMap dense_map(const Block& map) {
  require(map.is<float>() && map.ndim() == 3 && map.size() > 0, "map", shape_of(map), kMap);
  constexpr py::ssize_t kBytes = sizeof(float);
  require(reinterpret_cast<std::uintptr_t>(map.data) % kBytes == 0, "map", "misaligned memory", kMap);
  for (const py::ssize_t stride : map.strides)
    require(stride % kBytes == 0, "map", "strides that are no multiple of 4 bytes", kMap);
  return {static_cast<const float*>(map.data),
          static_cast<int>(map.shape[0]),
          static_cast<int>(map.shape[1]),
          static_cast<int>(map.shape[2]),
          map.strides[0] / kBytes,
          map.strides[1] / kBytes,
          map.strides[2] / kBytes};
}

py::object describe(Session& session, const py::object& map_value, const py::object& xy_value) {
  constexpr const char* kPoints = "an (N, 2) float32 array";
  const Block held = block_of(session.device != nullptr, map_value, "map", kMap);
  const DenseMap map = dense_map(held);
  const Input<float> xy(session, xy_value, "xy", 2, kPoints);
  require(xy.shape(1) == 2, "xy", shape_of(xy), kPoints);
  require_finite(xy, "xy");
  const Workspace::Frame frame(session.workspace);
  const auto capacity = static_cast<int>(xy.shape(0));
  Place<int> count(session, capacity);
  const OutputOf<float> rows(session, {capacity, map.dims});
  Keypoints keypoints;
  keypoints.xy = const_cast<float*>(xy.data());  // only read
  keypoints.count = count.at();
  keypoints.capacity = capacity;
  {
    py::gil_scoped_release unlocked;
    session.backend.describe(session.context, session.workspace, map, keypoints, rows.data());
  }
  return rows.all();
}

}  // namespace

void bind_describe(py::module_& m) { m.def("describe", describe, py::arg("session"), py::arg("map"), py::arg("xy")); }

}  // namespace fastretina::bindings
