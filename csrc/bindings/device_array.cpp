#include "device_array.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "core/error.h"
#include "dlpack.h"

namespace fastretina::bindings {
namespace {

// Objects of Python, and memory, end with the GIL held.
std::shared_ptr<void> kept(const py::object& object) {
  return {new py::object(object), [](void* held) {
            const py::gil_scoped_acquire gil;
            delete static_cast<py::object*>(held);
          }};
}

// Memory of somebody else; `keep` holds it.
DeviceArray borrowed(std::uintptr_t pointer, const Shape& shape, const std::optional<Shape>& strides,
                     const py::dtype& dtype, std::uintptr_t stream, const py::object& keep) {
  DeviceArray array;
  array.memory = kept(keep);
  array.data = reinterpret_cast<void*>(pointer);
  array.dtype = dtype;
  array.shape = shape;
  array.strides = strides ? *strides : c_strides(shape, dtype.itemsize());
  require(array.strides.size() == shape.size(), "strides", std::to_string(array.strides.size()), "one an axis");
  array.stream = reinterpret_cast<void*>(stream);
  array.device = array.size() > 0 ? need_device().device_of(array.data) : need_device().current_device();
  return array;
}

py::dict interface(const DeviceArray& a) {
  py::dict result;
  result["shape"] = py::tuple(py::cast(a.shape));
  result["typestr"] = a.dtype.attr("str");
  result["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(a.data), false);
  result["strides"] = a.contiguous() ? py::object(py::none()) : py::object(py::tuple(py::cast(a.strides)));
  // 0 is not allowed, since it may mean two things; 1 is the default stream.
  result["stream"] = a.stream == nullptr ? 1 : reinterpret_cast<std::uintptr_t>(a.stream);
  result["version"] = 3;
  return result;
}

struct Offer {
  DeviceArray array;
  std::vector<std::int64_t> shape, strides;
  dlpack::Managed managed;
};

py::capsule offer(const DeviceArray& a, const std::optional<std::int64_t>& stream) {
  if (!stream || *stream != -1)  // -1: the caller sees to the order
    need_device().follow(reinterpret_cast<void*>(stream ? *stream : 1), a.stream);
  const char kind = a.dtype.kind();
  const auto bytes = a.dtype.itemsize();
  auto own = std::make_unique<Offer>();
  own->array = a;
  for (std::size_t i = 0; i < a.shape.size(); ++i)
    own->shape.push_back(a.shape[i]), own->strides.push_back(a.strides[i] / bytes);
  const std::uint8_t code = kind == 'f'   ? dlpack::kFloat
                            : kind == 'i' ? dlpack::kInt
                            : kind == 'b' ? dlpack::kBool
                                          : dlpack::kUint;
  own->managed = {{a.data,
                   {dlpack::kCuda, a.device},
                   static_cast<std::int32_t>(a.shape.size()),
                   {code, static_cast<std::uint8_t>(8 * bytes), 1},
                   own->shape.data(),
                   own->strides.data(),
                   0},
                  own.get(),
                  [](dlpack::Managed* self) {
                    const py::gil_scoped_acquire gil;
                    delete static_cast<Offer*>(self->context);
                  }};
  PyObject* capsule = PyCapsule_New(&own->managed, dlpack::kOffered, [](PyObject* self) {
    if (!PyCapsule_IsValid(self, dlpack::kOffered)) return;  // taken over: the new holder releases it
    auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(self, dlpack::kOffered));
    managed->release(managed);
  });
  if (capsule == nullptr) throw py::error_already_set();
  static_cast<void>(own.release());
  return py::reinterpret_steal<py::capsule>(capsule);
}

// From what another library's __dlpack__ returned.
DeviceArray taken(const py::capsule& capsule, std::uintptr_t stream) {
  require(PyCapsule_IsValid(capsule.ptr(), dlpack::kOffered) != 0, "__dlpack__", "another capsule", "a dltensor");
  auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kOffered));
  const dlpack::Tensor& t = managed->tensor;
  const bool on_device = t.device.type == dlpack::kCuda || t.device.type == dlpack::kCudaManaged;
  require(on_device, "__dlpack__", "memory of device type " + std::to_string(t.device.type), "CUDA's");
  constexpr const char kKinds[] = {'i', 'u', 'f'};
  require((t.element.code < 3 || t.element.code == dlpack::kBool) && t.element.lanes == 1 && t.element.bits % 8 == 0,
          "__dlpack__", "elements of code " + std::to_string(t.element.code), "integers, floats or bool");
  DeviceArray a;
  const char kind = t.element.code == dlpack::kBool ? 'b' : kKinds[t.element.code];
  a.dtype = py::dtype(std::string(1, kind) + std::to_string(t.element.bits / 8));
  a.shape.assign(t.shape, t.shape + t.ndim);
  a.strides = c_strides(a.shape, a.dtype.itemsize());
  if (t.strides != nullptr)
    for (std::size_t i = 0; i < a.shape.size(); ++i) a.strides[i] = t.strides[i] * a.dtype.itemsize();
  a.data = static_cast<std::byte*>(t.data) + t.byte_offset;
  a.stream = reinterpret_cast<void*>(stream);
  a.device = t.device.id;
  PyCapsule_SetName(capsule.ptr(), dlpack::kTaken);
  a.memory = {managed, [](void* held) {
                auto* own = static_cast<dlpack::Managed*>(held);
                if (own->release != nullptr) own->release(own);
              }};
  return a;
}

py::array to_host(const DeviceArray& a) {
  require(a.contiguous(), "array", "strides", "a C-contiguous array");
  py::array host(a.dtype, a.shape);
  void* to = host.mutable_data();
  const auto bytes = static_cast<std::size_t>(a.size() * a.dtype.itemsize());
  const DeviceRuntime& runtime = need_device();
  {
    const py::gil_scoped_release unlocked;
    runtime.copy(to, a.data, bytes, a.stream);
    runtime.wait(a.stream);
  }
  return host;
}

}  // namespace

const DeviceRuntime& need_device() {
  const DeviceRuntime* runtime = device_runtime();
  if (runtime == nullptr)
    throw EngineError(
        "this core has no CUDA twins, so that arrays in device memory cannot be used; remedy: build it with "
        "FASTRETINA_CUDA=ON (pip install . -C cmake.define.FASTRETINA_CUDA=ON), or pass NumPy arrays");
  return *runtime;
}

Shape c_strides(const Shape& shape, py::ssize_t itemsize) {
  Shape strides(shape.size());
  for (std::size_t i = shape.size(); i-- > 0; itemsize *= shape[i]) strides[i] = itemsize;
  return strides;
}

bool DeviceArray::contiguous() const {
  py::ssize_t expected = dtype.itemsize();
  for (std::size_t i = shape.size(); i-- > 0; expected *= shape[i])
    if (shape[i] > 1 && strides[i] != expected) return false;
  return true;
}

py::ssize_t DeviceArray::size() const {
  py::ssize_t count = 1;
  for (const py::ssize_t n : shape) count *= n;
  return count;
}

DeviceArray device_array(const Shape& shape, const py::dtype& dtype, void* stream, const py::object& owner) {
  const DeviceRuntime& runtime = need_device();
  DeviceArray a;
  a.dtype = dtype;
  a.shape = shape;
  a.strides = c_strides(shape, dtype.itemsize());
  a.stream = stream;
  a.device = runtime.current_device();
  a.stream_owner = owner;
  a.data = runtime.allocate(static_cast<std::size_t>(a.size() * dtype.itemsize()), stream);
  a.memory = {a.data, [&runtime, stream, device = a.device, keep = kept(owner)](void* memory) {
                runtime.release(memory, stream, device);
              }};
  return a;
}

void bind_device_array(py::module_& m) {
  m.attr("HAS_CUDA") = device_runtime() != nullptr;
  py::class_<DeviceArray>(m, "DeviceArray", "An array in device memory; see fastretina.ops.")
      .def(py::init(&borrowed), py::arg("pointer"), py::arg("shape"), py::arg("strides"), py::arg("dtype"),
           py::arg("stream"), py::arg("keep"))
      .def_static("from_dlpack", &taken, py::arg("capsule"), py::arg("stream"))
      .def_property_readonly("shape", [](const DeviceArray& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("dtype", [](const DeviceArray& a) { return a.dtype; })
      .def_property_readonly("device", [](const DeviceArray& a) { return a.device; })
      .def_property_readonly("stream", [](const DeviceArray& a) { return reinterpret_cast<std::uintptr_t>(a.stream); })
      .def_property_readonly("stream_owner", [](const DeviceArray& a) { return a.stream_owner; })
      .def_property_readonly("__cuda_array_interface__", &interface)
      .def("__dlpack__",
           [](const DeviceArray& a, const std::optional<std::int64_t>& stream, const py::kwargs&) {
             return offer(a, stream);
           },
           py::kw_only(), py::arg("stream") = py::none())
      .def("__dlpack_device__", [](const DeviceArray& a) { return py::make_tuple(dlpack::kCuda, a.device); })
      .def("__len__", [](const DeviceArray& a) { return a.shape.empty() ? 0 : a.shape[0]; })
      .def("view",
           [](const DeviceArray& a, const py::object& type) {
             const py::dtype dtype = py::dtype::from_args(type);
             require(dtype.itemsize() == a.dtype.itemsize(), "dtype", py::str(dtype), "one of the same size");
             DeviceArray other = a;
             other.dtype = dtype;
             return other;
           },
           py::arg("dtype"), "The same memory as another type of the same size.")
      .def("to_host", &to_host, "A NumPy copy; waits for the array's stream.")
      .def("__repr__", [](const DeviceArray& a) {
        return "DeviceArray(shape=" + py::str(py::tuple(py::cast(a.shape))).cast<std::string>() + ", dtype=" +
               py::str(a.dtype).cast<std::string>() + ", device=" + std::to_string(a.device) + ")";
      });
  m.def(
      "follow",
      [](std::uintptr_t stream, std::uintptr_t earlier) {
        need_device().follow(reinterpret_cast<void*>(stream), reinterpret_cast<void*>(earlier));
      },
      py::arg("stream"), py::arg("earlier"), "What `stream` gets from now on runs after what `earlier` has got.");
  m.def("current_device", [] { return need_device().current_device(); });
  m.def("need_device", [] { static_cast<void>(need_device()); }, "EngineError where the core has no CUDA.");
}

}  // namespace fastretina::bindings
