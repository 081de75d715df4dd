#include "detect/detect.h"
#include "keypoints.h"
#include "upsample/upsample.h"

namespace fastretina::bindings {

void bind_detect(py::module_& m) {
  const NmsOptions defaults;
  m.def(
      "detect",
      [](Session& session, const py::object& difference, const py::object& mask, int radius, int max_keypoints,
         float threshold) {
        const Input<float> map(session, difference, "difference", 2, "a (h, w) float32 array");
        require(map.size() > 0, "difference", shape_of(map), "at least 1 x 1");
        require_finite(map, "difference");
        Input<std::uint8_t> keep;
        const auto allowed = optional_mask(session, mask, "mask", kStride * static_cast<int>(map.shape(0)),
                                           kStride * static_cast<int>(map.shape(1)), keep);
        const View<const float> in = map.view();
        return run_keypoints(session, std::int64_t{kStride} * kStride * map.size(), {radius, max_keypoints, threshold},
                             [&](const NmsOptions& options, const Keypoints& out) {
                               session.backend.detect(session.context, session.workspace, in, allowed, options, out);
                             });
      },
      py::arg("session"), py::arg("difference"), py::arg("mask") = py::none(), py::kw_only(),
      py::arg("radius") = defaults.radius, py::arg("max_keypoints") = defaults.max_keypoints,
      py::arg("threshold") = defaults.threshold);
}

}  // namespace fastretina::bindings
