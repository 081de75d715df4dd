// A pair on the device. Memory of images, and what the network reads and answers, go by address: who holds them is
// torch.
#include <cstdint>
#include <memory>

#include "bind_transform.h"
#include "core/error.h"
#include "pipeline_cuda.h"
#include "pipeline_python.h"

namespace fastretina::bindings {
namespace {

using cuda::DevicePair;

// (address, height, width, channels, bytes of an element): 1 uint8, 2 uint16, 4 float32; pixels without gaps.
Image image_from(const py::tuple& value) {
  const auto address = value[0].cast<std::uintptr_t>();
  const int height = value[1].cast<int>(), width = value[2].cast<int>(), channels = value[3].cast<int>(),
            bytes = value[4].cast<int>();
  const PixelType type = bytes == 1 ? PixelType::u8 : bytes == 2 ? PixelType::u16 : PixelType::f32;
  const std::ptrdiff_t row_bytes = std::ptrdiff_t{width} * channels * bytes;
  return {reinterpret_cast<const void*>(address), width, height, channels, row_bytes, type};
}

// (address of the difference, address of the descriptors, their strides (c, y, x) in elements)
NetworkOutput output_from(const py::tuple& value, View<const float> plane, int dims) {
  const int h = plane.height / kStride, w = plane.width / kStride;
  const auto* difference = reinterpret_cast<const float*>(value[0].cast<std::uintptr_t>());
  const auto* rows = reinterpret_cast<const float*>(value[1].cast<std::uintptr_t>());
  const auto strides = value[2].cast<py::tuple>();
  const auto stride = [&](int axis) { return strides[static_cast<std::size_t>(axis)].cast<std::ptrdiff_t>(); };
  return {{difference, w, h}, {rows, dims, h, w, stride(0), stride(1), stride(2)}};
}

// A pair and what it was made for.
struct PythonPair {
  std::unique_ptr<DevicePair> pair;
  int dims;
};

py::dict read(PythonPair& self, std::uintptr_t findings) {
  DevicePair& pair = *self.pair;
  const Registration* found = nullptr;
  {
    const py::gil_scoped_release release;
    found = &pair.read(reinterpret_cast<std::byte*>(findings));
  }
  py::dict result = to_python(*found);
  for (int i = 0; i < 2; ++i) {
    const cuda::Seen& seen = pair.seen(i);
    const char* name = i == 0 ? "fixed" : "moving";
    result[py::str(std::string("keypoints_") + name)] = keypoints_of(seen.T_network_input, seen.keypoints);
    result[py::str(std::string("heatmap_") + name)] = heatmap_of(seen.difference, seen.content);
  }
  result["strong"] = pair.strong();
  result["wants_field"] = pair.wants_field();
  return result;
}

py::object read_field(PythonPair& self, std::uintptr_t findings) {
  const Registration* answer = nullptr;
  {
    const py::gil_scoped_release release;
    answer = &self.pair->read_field(reinterpret_cast<std::byte*>(findings));
  }
  return field_to(answer->best.field());
}

}  // namespace

void bind_device_pair(py::module_& m) {
  py::class_<PythonPair>(m, "DevicePair", "csrc/pipeline_cuda.h on addresses.")
      .def(py::init([](const py::tuple& fixed, const py::tuple& moving, const Options& options, int multiple,
                       int dims) {
             auto pair = cuda::make_device_pair(image_from(fixed), image_from(moving), options, multiple, dims);
             if (!pair) throw EngineError("this core has no CUDA twins; remedy: build it with FASTRETINA_CUDA=ON");
             return PythonPair{std::move(pair), dims};
           }),
           py::arg("fixed"), py::arg("moving"), py::arg("options"), py::arg("multiple"), py::arg("dims"))
      .def("plane",
           [](const PythonPair& self, int image) {
             const View<const float> plane = self.pair->plane(image);
             return py::make_tuple(reinterpret_cast<std::uintptr_t>(plane.data), plane.height, plane.width);
           },
           py::arg("image"), "Address, height, width.")
      .def("look", [](PythonPair& self, std::uintptr_t stream) { self.pair->look(reinterpret_cast<void*>(stream)); },
           py::arg("stream"))
      .def("solve",
           [](PythonPair& self, std::uintptr_t stream, const py::tuple& fixed, const py::tuple& moving) {
             DevicePair& pair = *self.pair;
             pair.solve(reinterpret_cast<void*>(stream), output_from(fixed, pair.plane(0), self.dims),
                        output_from(moving, pair.plane(1), self.dims));
           },
           py::arg("stream"), py::arg("fixed"), py::arg("moving"))
      .def_property_readonly("findings",
                             [](const PythonPair& self) {
                               const auto address = reinterpret_cast<std::uintptr_t>(self.pair->findings());
                               return py::make_tuple(address, self.pair->findings_bytes());
                             },
                             "Address on the device, bytes.")
      .def("read", &read, py::arg("findings"), "findings: address of a copy on the host.")
      .def("deform",
           [](PythonPair& self, std::uintptr_t stream) { self.pair->deform(reinterpret_cast<void*>(stream)); },
           py::arg("stream"), py::call_guard<py::gil_scoped_release>(),
           "Where read() says wants_field; then the copy once more, and read_field().")
      .def("read_field", &read_field, py::arg("findings"), "The field of the answer, or None.");
}

}  // namespace fastretina::bindings
