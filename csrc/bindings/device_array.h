// An array in device memory: what a room on the device takes and returns. It offers its memory by
// __cuda_array_interface__ and DLPack, and takes other people's by either; nothing is copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device_runtime.h"

namespace fastretina::bindings {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

// The runtime, or an EngineError that says how to get one.
const DeviceRuntime& need_device();

Shape c_strides(const Shape& shape, py::ssize_t itemsize);

struct DeviceArray {
  std::shared_ptr<void> memory;  // ends with the last array that lies in it
  void* data = nullptr;
  py::dtype dtype;
  Shape shape, strides;  // in bytes
  void* stream = nullptr;  // what writes it runs there
  int device = 0;
  py::object stream_owner = py::none();  // what keeps the stream, of memory that was made on it

  bool contiguous() const;
  py::ssize_t size() const;
};

// Fresh memory in the order of `stream`, to which it returns; `owner` keeps the stream.
DeviceArray device_array(const Shape& shape, const py::dtype& dtype, void* stream, const py::object& owner);

void bind_device_array(py::module_& m);

}  // namespace fastretina::bindings
