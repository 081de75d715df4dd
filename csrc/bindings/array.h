// numpy arrays <-> views, with the checks that make misuse an error that names the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "core/backend.h"
#include "core/context.h"
#include "core/device_runtime.h"
#include "core/error.h"
#include "core/finite.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina::bindings {

namespace py = pybind11;

// A field of a packed record, or bytes read from a file, need not lie on a boundary of their type; rooms rely on it.
constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
inline bool is_aligned(const py::array& array) { return (array.flags() & kAligned) != 0; }

template <class T>
using Array = py::array_t<T, static_cast<int>(py::array::c_style) | kAligned>;

// What a Python call runs on: threads or a stream, and scratch. Belongs to one Python thread at a time.
struct Session {
  explicit Session(int threads) : context(threads), backend(cpu_backend()) {}
  Session(const DeviceRuntime& runtime, void* stream, py::object owner_)
      : workspace(runtime.scratch), backend(*cuda_backend()), device(&runtime), owner(std::move(owner_)) {
    context.stream = stream;
  }
  Context context;
  Workspace workspace;
  const Backend& backend;
  const DeviceRuntime* device = nullptr;  // not NULL: arguments and results lie in device memory
  py::object owner;                       // of the stream
};

inline std::string shape_of(const py::array& array) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(array.shape(i));
  }
  return text + ") " + py::str(array.dtype()).cast<std::string>();
}

// `value` as a C-contiguous array of exactly T with `ndim` axes; anything else is an InvalidArgument (nothing is cast).
template <class T>
Array<T> checked(const py::object& value, const char* argument, int ndim, const char* allowed) {
  require(py::isinstance<py::array>(value), argument, py::str(py::type::of(value)).cast<std::string>(), allowed);
  const auto array = py::reinterpret_borrow<py::array>(value);
  require(array.dtype().is(py::dtype::of<T>()) || py::isinstance<py::array_t<T>>(value), argument, shape_of(array), allowed);
  require(array.ndim() == ndim, argument, shape_of(array), allowed);
  return Array<T>::ensure(array);  // copies only if strided or misaligned
}

inline void require_finite(const float* data, py::ssize_t count, const char* argument) {
  if (!all_finite(data, count)) throw InvalidArgument(argument, "NaN or infinity", "finite values");
}

// The first `count` rows of a buffer as a fresh array.
template <class T>
py::array_t<T> copy_rows(const T* data, py::ssize_t count, py::ssize_t columns = 0) {
  if (columns == 0) return py::array_t<T>(count, data);
  return py::array_t<T>({count, columns}, data);
}

}  // namespace fastretina::bindings
