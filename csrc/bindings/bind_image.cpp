#include "image/image.h"
#include "python_image.h"

namespace fastretina::bindings {
namespace {

py::dict image(Session& session, const py::object& value, int working_size, int multiple, float dark_fraction,
               int erode_px, float clip) {
  const PythonImage python(value, "image", PythonImage::Channels::gray_or_rgb, session.device != nullptr);
  const Image& input = python.image();
  const ImageOptions options{working_size, multiple, dark_fraction, erode_px, clip};
  const ImageGeometry g = image_geometry({input.width, input.height}, options);

  const Workspace::Frame frame(session.workspace);
  const OutputOf<float> plane(session, {g.plane.height, g.plane.width}),
      gray(session, {g.content.height, g.content.width});
  const OutputOf<std::uint8_t> mask(session, {g.plane.height, g.plane.width});
  Place<float> contrast(session);
  const NetworkImage output{plane.view(), mask.view(), gray.view(), contrast.at()};
  {
    py::gil_scoped_release unlocked;
    session.backend.image(session.context, session.workspace, input, g, options, output);
  }
  const float found = contrast.get();  // the device cannot throw: NaN says it
  require(!std::isnan(found), "image", "NaN, infinity or values out of range", "float32 within [0, 1]");
  py::dict result;
  result["plane"] = plane.all();
  result["mask"] = mask.all();
  result["gray"] = gray.all();
  result["scale"] = g.scale;
  result["contrast"] = found;
  result["input_size"] = py::make_tuple(g.input.width, g.input.height);
  result["content_size"] = py::make_tuple(g.content.width, g.content.height);
  return result;
}

}  // namespace

void bind_image(py::module_& m) {
  const ImageOptions defaults;
  m.def("image", image, py::arg("session"), py::arg("image"), py::kw_only(),
        py::arg("working_size") = defaults.working_size, py::arg("multiple") = defaults.multiple,
        py::arg("dark_fraction") = defaults.dark_fraction, py::arg("erode_px") = defaults.erode_px,
        py::arg("clip") = defaults.clip);

  py::dict options;  // the one home of the defaults is the struct
  options["working_size"] = defaults.working_size;
  options["multiple"] = defaults.multiple;
  options["dark_fraction"] = defaults.dark_fraction;
  options["erode_px"] = defaults.erode_px;
  options["clip"] = defaults.clip;
  m.attr("IMAGE_DEFAULTS") = options;
  m.attr("SMALLEST_SIDE_PX") = kSmallestSidePx;
}

}  // namespace fastretina::bindings
