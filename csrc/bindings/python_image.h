// A Python image as the rooms take it. Rows may lie anywhere (a crop is not copied); the array is kept alive.
#pragma once

#include <string>

#include "array.h"
#include "core/types.h"

namespace fastretina::bindings {

class PythonImage {
 public:
  enum class Channels { gray_or_rgb, up_to_four };

  PythonImage(const py::object& value, const char* argument, Channels channels = Channels::gray_or_rgb) {
    const bool any = channels == Channels::up_to_four;
    const char* allowed = any ? "a non-empty (H, W) or (H, W, C <= 4) array of uint8, uint16 or float32"
                              : "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1]: cast with "
                                ".astype, scale float64 and bool to float32 or uint8, drop an alpha channel";
    require(py::isinstance<py::array>(value), argument, py::str(py::type::of(value)).cast<std::string>(), allowed);
    array_ = py::reinterpret_borrow<py::array>(value);
    const py::ssize_t count = array_.ndim() == 3 ? array_.shape(2) : 1;
    const bool counted = array_.ndim() == 2 || (array_.ndim() == 3 && (count == 3 || (any && count >= 1 && count <= 4)));
    require(counted && !(any && array_.size() == 0), argument, shape_of(array_), allowed);
    constexpr py::ssize_t kLongest = 1 << 28;
    require(array_.shape(0) < kLongest && array_.shape(1) < kLongest, argument, shape_of(array_), "sides below 2^28 px");
    image_.type = pixel_type(argument, allowed);
    image_.height = static_cast<int>(array_.shape(0));
    image_.width = static_cast<int>(array_.shape(1));
    image_.channels = static_cast<int>(count);
    if (!pixels_are_adjacent() || !is_aligned(array_))
      array_ = py::module_::import("numpy").attr("array")(array_, py::arg("order") = "C");  // a copy
    image_.data = array_.data();
    image_.row_bytes = array_.strides(0);
  }

  const Image& image() const { return image_; }
  const py::array& array() const { return array_; }

 private:
  PixelType pixel_type(const char* argument, const char* allowed) const {
    if (py::isinstance<py::array_t<std::uint8_t>>(array_)) return PixelType::u8;
    if (py::isinstance<py::array_t<std::uint16_t>>(array_)) return PixelType::u16;
    if (py::isinstance<py::array_t<float>>(array_)) return PixelType::f32;
    throw InvalidArgument(argument, shape_of(array_), allowed);
  }

  bool pixels_are_adjacent() const {
    py::ssize_t expected = array_.itemsize();
    for (py::ssize_t axis = array_.ndim() - 1; axis > 0; --axis) {
      if (array_.strides(axis) != expected) return false;
      expected *= array_.shape(axis);
    }
    return true;
  }

  py::array array_;
  Image image_;
};

}  // namespace fastretina::bindings
