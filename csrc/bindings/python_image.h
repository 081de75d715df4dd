// A Python image as the rooms take it. Rows may lie anywhere (a crop is not copied); the array is kept alive.
#pragma once

#include <string>

#include "core/types.h"
#include "placed.h"

namespace fastretina::bindings {

class PythonImage {
 public:
  enum class Channels { gray_or_rgb, up_to_four };

  PythonImage(const py::object& value, const char* argument, Channels channels = Channels::gray_or_rgb,
              bool on_device = false) {
    const bool any = channels == Channels::up_to_four;
    const char* allowed = any ? "a non-empty (H, W) or (H, W, C <= 4) array of uint8, uint16 or float32"
                              : "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1]: cast with "
                                ".astype, scale float64 and bool to float32 or uint8, drop an alpha channel";
    block_ = block_of(on_device, value, argument, allowed);
    const py::ssize_t axes = block_.ndim(), count = axes == 3 ? block_.shape[2] : 1;
    const bool counted = axes == 2 || (axes == 3 && (count == 3 || (any && count >= 1 && count <= 4)));
    require(counted && !(any && block_.size() == 0), argument, shape_of(block_), allowed);
    constexpr py::ssize_t kLongest = 1 << 28;
    require(block_.shape[0] < kLongest && block_.shape[1] < kLongest, argument, shape_of(block_),
            "sides below 2^28 px");
    image_.type = pixel_type(argument, allowed);
    image_.height = static_cast<int>(block_.shape[0]);
    image_.width = static_cast<int>(block_.shape[1]);
    image_.channels = static_cast<int>(count);
    if (on_device) {
      require(pixels_are_adjacent() && aligned(), argument, "pixels apart from one another on the device",
              "rows without gaps: .contiguous() of torch, ascontiguousarray of others");
    } else if (!pixels_are_adjacent() || !aligned()) {
      const py::array copy = py::module_::import("numpy").attr("array")(value, py::arg("order") = "C");
      block_ = block_of(false, copy, argument, allowed);
    }
    image_.data = block_.data;
    image_.row_bytes = block_.strides[0];
  }

  const Image& image() const { return image_; }
  const Block& block() const { return block_; }

 private:
  PixelType pixel_type(const char* argument, const char* allowed) const {
    if (block_.is<std::uint8_t>()) return PixelType::u8;
    if (block_.is<std::uint16_t>()) return PixelType::u16;
    if (block_.is<float>()) return PixelType::f32;
    throw InvalidArgument(argument, shape_of(block_), allowed);
  }

  bool pixels_are_adjacent() const {
    py::ssize_t expected = block_.dtype.itemsize();
    for (std::size_t axis = block_.shape.size() - 1; axis > 0; --axis) {
      if (block_.strides[axis] != expected) return false;
      expected *= block_.shape[axis];
    }
    return true;
  }

  bool aligned() const {
    const py::ssize_t bytes = block_.dtype.itemsize();
    return reinterpret_cast<std::uintptr_t>(block_.data) % static_cast<std::uintptr_t>(bytes) == 0 &&
           block_.strides[0] % bytes == 0;
  }

  Block block_;
  Image image_;
};

}  // namespace fastretina::bindings
