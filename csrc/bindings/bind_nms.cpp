#include "keypoints.h"

namespace fastretina::bindings {

void bind_nms(py::module_& m) {
  const NmsOptions defaults;
  m.def(
      "nms",
      [](Session& session, const py::object& confidence, const py::object& mask, int radius, int max_keypoints,
         float threshold) {
        const Input<float> map(session, confidence, "confidence", 2, "a (H, W) float32 array");
        require(map.size() > 0, "confidence", shape_of(map), "at least 1 x 1");
        require_finite(map, "confidence");
        Input<std::uint8_t> keep;
        const auto allowed =
            optional_mask(session, mask, "mask", static_cast<int>(map.shape(0)), static_cast<int>(map.shape(1)), keep);
        const View<const float> in = map.view();
        return run_keypoints(session, map.size(), {radius, max_keypoints, threshold},
                             [&](const NmsOptions& options, const Keypoints& out) {
                               session.backend.nms(session.context, session.workspace, in, allowed, options, out);
                             });
      },
      py::arg("session"), py::arg("confidence"), py::arg("mask") = py::none(), py::kw_only(),
      py::arg("radius") = defaults.radius, py::arg("max_keypoints") = defaults.max_keypoints,
      py::arg("threshold") = defaults.threshold);

  py::dict options;  // the one home of the defaults is the struct
  options["radius"] = defaults.radius;
  options["max_keypoints"] = defaults.max_keypoints;
  options["threshold"] = defaults.threshold;
  m.attr("NMS_DEFAULTS") = options;
}

}  // namespace fastretina::bindings
