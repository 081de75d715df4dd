#include "array.h"
#include "image/image.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kImage =
    "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1]: cast with .astype, scale float64 and bool "
    "to "
    "float32 or uint8, drop an alpha channel";

PixelType pixel_type(const py::array& array) {
  if (py::isinstance<py::array_t<std::uint8_t>>(array)) return PixelType::u8;
  if (py::isinstance<py::array_t<std::uint16_t>>(array)) return PixelType::u16;
  if (py::isinstance<py::array_t<float>>(array)) return PixelType::f32;
  throw InvalidArgument("image", shape_of(array), kImage);
}

// Pixels of a row must be adjacent; rows may be anywhere (a crop is not copied).
py::array adjacent_pixels(const py::array& array) {
  py::ssize_t expected = array.itemsize();
  for (py::ssize_t axis = array.ndim() - 1; axis > 0; --axis) {
    if (array.strides(axis) != expected) return py::module_::import("numpy").attr("ascontiguousarray")(array);
    expected *= array.shape(axis);
  }
  return array;
}

py::dict image(Session& session, const py::object& value, int working_size, int multiple, float dark_fraction,
               int erode_px, float clip) {
  require(py::isinstance<py::array>(value), "image", py::str(py::type::of(value)).cast<std::string>(), kImage);
  auto array = py::reinterpret_borrow<py::array>(value);
  require(array.ndim() == 2 || (array.ndim() == 3 && array.shape(2) == 3), "image", shape_of(array), kImage);
  Image input;
  input.type = pixel_type(array);
  require(array.shape(0) < (1 << 30) && array.shape(1) < (1 << 28), "image", shape_of(array), "sides below 2^28 px");
  input.height = static_cast<int>(array.shape(0));
  input.width = static_cast<int>(array.shape(1));
  input.channels = array.ndim() == 3 ? 3 : 1;

  const ImageOptions options{working_size, multiple, dark_fraction, erode_px, clip};
  const ImageGeometry g = image_geometry({input.width, input.height}, options);
  array = adjacent_pixels(array);
  input.data = array.data();
  input.row_bytes = array.strides(0);

  Array<float> plane({g.plane.height, g.plane.width}), gray({g.content.height, g.content.width});
  Array<std::uint8_t> mask({g.plane.height, g.plane.width});
  float contrast = 0;
  const NetworkImage output{mutable_view(plane), mutable_view(mask), mutable_view(gray), &contrast};
  {
    py::gil_scoped_release unlocked;
    cpu::image(session.context, session.workspace, input, g, options, output);
  }
  py::dict result;
  result["plane"] = plane;
  result["mask"] = mask;
  result["gray"] = gray;
  result["scale"] = g.scale;
  result["contrast"] = contrast;
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
}

}  // namespace fastretina::bindings
