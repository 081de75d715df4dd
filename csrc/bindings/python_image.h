// A Python image as the rooms take it. Rows may lie anywhere (a crop is not copied); the array is kept alive.
#pragma once

#include <string>

#include "array.h"
#include "core/types.h"

namespace fastretina::bindings {

class PythonImage {
 public:
  static constexpr const char* kAllowed =
      "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1]; remedy: cast with .astype, scale float64 "
      "and bool, drop an alpha channel";

  PythonImage(const py::object& value, const char* argument) {
    require(py::isinstance<py::array>(value), argument, py::str(py::type::of(value)).cast<std::string>(), kAllowed);
    array_ = py::reinterpret_borrow<py::array>(value);
    const bool color = array_.ndim() == 3 && array_.shape(2) == 3;
    require(array_.ndim() == 2 || color, argument, shape_of(array_), kAllowed);
    image_.type = pixel_type(argument);
    require(array_.shape(0) < (1 << 30) && array_.shape(1) < (1 << 28), argument, shape_of(array_), "sides below 2^28 px");
    image_.height = static_cast<int>(array_.shape(0));
    image_.width = static_cast<int>(array_.shape(1));
    image_.channels = color ? 3 : 1;
    make_pixels_adjacent();
    image_.data = array_.data();
    image_.row_bytes = array_.strides(0);
  }

  const Image& image() const { return image_; }

 private:
  PixelType pixel_type(const char* argument) const {
    if (py::isinstance<py::array_t<std::uint8_t>>(array_)) return PixelType::u8;
    if (py::isinstance<py::array_t<std::uint16_t>>(array_)) return PixelType::u16;
    if (py::isinstance<py::array_t<float>>(array_)) return PixelType::f32;
    throw InvalidArgument(argument, shape_of(array_), kAllowed);
  }

  void make_pixels_adjacent() {
    py::ssize_t expected = array_.itemsize();
    for (py::ssize_t axis = array_.ndim() - 1; axis > 0; --axis) {
      if (array_.strides(axis) != expected) {
        array_ = py::module_::import("numpy").attr("ascontiguousarray")(array_);
        return;
      }
      expected *= array_.shape(axis);
    }
  }

  py::array array_;
  Image image_;
};

}  // namespace fastretina::bindings
