// Arguments and results of a room: NumPy arrays on a session of the CPU, DeviceArrays on one of the device. What is
// wrong with an argument's type, shape or order is an InvalidArgument either way; its values are looked at on the CPU
// alone.
#pragma once

#include <string>
#include <vector>

#include "array.h"
#include "device_array.h"

namespace fastretina::bindings {

// Memory of an argument, in any order.
struct Block {
  py::object keep;
  const void* data = nullptr;
  py::dtype dtype;
  Shape shape, strides;  // in bytes
  bool on_device = false;

  py::ssize_t ndim() const { return static_cast<py::ssize_t>(shape.size()); }
  py::ssize_t size() const {
    py::ssize_t count = 1;
    for (const py::ssize_t n : shape) count *= n;
    return count;
  }
  template <class T>
  bool is() const {
    const py::dtype wanted = py::dtype::of<T>();
    return dtype.is(wanted) || dtype.equal(wanted);
  }
};

inline std::string shape_of(const Block& block) {
  std::string text = "(";
  for (std::size_t i = 0; i < block.shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(block.shape[i]);
  return text + ") " + py::str(block.dtype).cast<std::string>();
}

inline Block block_of(bool on_device, const py::object& value, const char* argument, const char* allowed) {
  const auto type = [&] { return py::str(py::type::of(value)).cast<std::string>(); };
  if (on_device) {
    require(py::isinstance<DeviceArray>(value), argument, type(), "an array in device memory, as the others");
    const auto& a = value.cast<const DeviceArray&>();
    return {value, a.data, a.dtype, a.shape, a.strides, true};
  }
  require(py::isinstance<py::array>(value), argument, type(), allowed);
  const auto a = py::reinterpret_borrow<py::array>(value);
  return {value, a.data(), a.dtype(), {a.shape(), a.shape() + a.ndim()}, {a.strides(), a.strides() + a.ndim()}, false};
}

// An argument as a C-contiguous array of exactly T. Nothing is cast; NumPy arrays are copied if strided or misaligned.
template <class T>
class Input {
 public:
  Input() = default;
  Input(const Session& session, const py::object& value, const char* argument, int ndim, const char* allowed)
      : block_(block_of(session.device != nullptr, value, argument, allowed)) {
    require(block_.is<T>() && block_.ndim() == ndim, argument, shape_of(block_), allowed);
    if (session.device == nullptr) {
      const auto array = Array<T>::ensure(block_.keep);
      block_.keep = array;
      block_.data = array.data();
    } else {
      require(value.cast<const DeviceArray&>().contiguous(), argument, "strides on the device",
              "a C-contiguous array: .contiguous() of torch, ascontiguousarray of others");
    }
  }
  const T* data() const { return static_cast<const T*>(block_.data); }
  py::ssize_t shape(std::size_t axis) const { return block_.shape[axis]; }
  py::ssize_t size() const { return block_.size(); }
  const Block& block() const { return block_; }
  View<const T> view() const { return {data(), static_cast<int>(shape(1)), static_cast<int>(shape(0))}; }

 private:
  Block block_;
};

template <class T>
std::string shape_of(const Input<T>& input) {
  return shape_of(input.block());
}

inline void require_finite(const Input<float>& input, const char* argument) {
  if (!input.block().on_device) require_finite(input.data(), input.size(), argument);
}

// An optional mask: None -> empty view. `keep` holds the array alive.
inline View<const std::uint8_t> optional_mask(const Session& session, const py::object& value, const char* argument,
                                              int height, int width, Input<std::uint8_t>& keep) {
  if (value.is_none()) return {};
  keep = {session, value, argument, 2, "None or a (H, W) uint8 array of the map's size"};
  require(keep.shape(0) == height && keep.shape(1) == width, argument, shape_of(keep), "the map's size");
  return keep.view();
}

// A fresh array for a room to fill.
class Output {
 public:
  Output(const Session& session, const py::dtype& dtype, const Shape& shape) : shape_(shape), dtype_(dtype) {
    if (session.device == nullptr) {
      py::array array(dtype, shape);
      data_ = array.mutable_data();
      object_ = std::move(array);
    } else {
      DeviceArray array = device_array(shape, dtype, session.context.stream, session.owner);
      data_ = array.data;
      object_ = py::cast(std::move(array));
    }
    on_device_ = session.device != nullptr;
  }
  void* data() const { return data_; }
  const py::object& all() const { return object_; }
  py::object first(py::ssize_t count) const {  // rows; on the device the others stay allocated
    Shape shape = shape_;
    shape[0] = count;
    if (!on_device_) return py::array(dtype_, shape, data_);
    DeviceArray part = object_.cast<const DeviceArray&>();
    part.shape = shape;
    return py::cast(std::move(part));
  }

 protected:
  Shape shape_;

 private:
  py::object object_;
  py::dtype dtype_;
  void* data_ = nullptr;
  bool on_device_ = false;
};

template <class T>
class OutputOf : public Output {
 public:
  OutputOf(const Session& session, const Shape& shape) : Output(session, py::dtype::of<T>(), shape) {}
  T* data() const { return static_cast<T*>(Output::data()); }
  View<T> view() const { return {data(), static_cast<int>(shape_[1]), static_cast<int>(shape_[0])}; }
};

// One T where the session's rooms read it, or write it. In a Workspace::Frame of the session.
template <class T>
class Place {
 public:
  explicit Place(Session& session) : session_(session) {
    if (session.device != nullptr) at_ = session.workspace.take<T>(1);
  }
  Place(Session& session, const T& value) : Place(session) {
    value_ = value;
    if (session.device != nullptr) session.device->copy(at_, &value_, sizeof(T), session.context.stream);
  }
  Place(const Place&) = delete;
  T* at() { return session_.device == nullptr ? &value_ : at_; }
  // What it holds by now; waits for the stream.
  const T& get() {
    if (session_.device == nullptr) return value_;
    const py::gil_scoped_release unlocked;
    session_.device->copy(&value_, at_, sizeof(T), session_.context.stream);
    session_.device->wait(session_.context.stream);
    return value_;
  }

 private:
  Session& session_;
  T value_{};
  T* at_ = nullptr;
};

}  // namespace fastretina::bindings
