#include "bind_transform.h"
#include "warp/warp.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kMoving = "a non-empty (H, W) or (H, W, C <= 4) array of uint8, uint16 or float32";

PixelType pixel_type(const py::array& array) {
  if (py::isinstance<py::array_t<std::uint8_t>>(array)) return PixelType::u8;
  if (py::isinstance<py::array_t<std::uint16_t>>(array)) return PixelType::u16;
  if (py::isinstance<py::array_t<float>>(array)) return PixelType::f32;
  throw InvalidArgument("moving", shape_of(array), kMoving);
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

Image image_of(const py::array& array) {
  Image image;
  image.data = array.data();
  image.height = static_cast<int>(array.shape(0));
  image.width = static_cast<int>(array.shape(1));
  image.channels = array.ndim() == 3 ? static_cast<int>(array.shape(2)) : 1;
  image.row_bytes = array.strides(0);
  image.type = pixel_type(array);
  return image;
}

py::tuple warp(Session& session, const py::object& value, int kind, const Array<double>& params, int height, int width,
               int interpolation) {
  require(py::isinstance<py::array>(value), "moving", py::str(py::type::of(value)).cast<std::string>(), kMoving);
  auto array = py::reinterpret_borrow<py::array>(value);
  require((array.ndim() == 2 || (array.ndim() == 3 && array.shape(2) >= 1 && array.shape(2) <= 4)) && array.size() > 0,
          "moving", shape_of(array), kMoving);
  constexpr py::ssize_t kLongest = 1 << 28;
  require(array.shape(0) < kLongest && array.shape(1) < kLongest, "moving", shape_of(array), "sides below 2^28 px");
  require(height > 0 && width > 0 && height < kLongest && width < kLongest, "size",
          "(" + std::to_string(height) + ", " + std::to_string(width) + ")", "a positive height and width below 2^28");
  pixel_type(array);
  array = adjacent_pixels(array);
  const Image moving = image_of(array);
  const Transform t = transform_from(kind, params);

  std::vector<py::ssize_t> shape{height, width};
  if (array.ndim() == 3) shape.push_back(array.shape(2));
  py::array result(array.dtype(), shape);
  Array<std::uint8_t> valid({height, width});
  const MutableImage out{result.mutable_data(), width, height, moving.channels, result.strides(0), moving.type};
  const auto mask = mutable_view(valid);
  {
    py::gil_scoped_release unlocked;
    cpu::warp(session.context, session.workspace, moving, t, {static_cast<Interpolation>(interpolation)}, out, mask);
  }
  return py::make_tuple(result, valid);
}

}  // namespace

void bind_warp(py::module_& m) {
  const WarpOptions defaults;
  m.def("warp", warp, py::arg("session"), py::arg("moving"), py::arg("kind"), py::arg("params"), py::arg("height"),
        py::arg("width"), py::kw_only(), py::arg("interpolation") = static_cast<int>(defaults.interpolation));

  py::dict options;
  options["interpolation"] = static_cast<int>(defaults.interpolation);
  m.attr("WARP_DEFAULTS") = options;
}

}  // namespace fastretina::bindings
