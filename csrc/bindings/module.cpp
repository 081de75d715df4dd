// The extension module: only the list of what it binds.
#include "array.h"
#include "core/simd.h"
#include "device_array.h"

namespace py = pybind11;

namespace fastretina::bindings {
void bind_options(py::module_& m);
void bind_transform(py::module_& m);
void bind_image(py::module_& m);
void bind_upsample(py::module_& m);
void bind_nms(py::module_& m);
void bind_detect(py::module_& m);
void bind_describe(py::module_& m);
void bind_match(py::module_& m);
void bind_estimate(py::module_& m);
void bind_refine(py::module_& m);
void bind_warp(py::module_& m);
void bind_quality(py::module_& m);
void bind_pipeline(py::module_& m);
void bind_device_pair(py::module_& m);
}  // namespace fastretina::bindings

PYBIND11_MODULE(_core, m) {
  using namespace fastretina;
  using namespace fastretina::bindings;
  m.doc() = "The native rooms of fastretina; use fastretina.ops.";
  m.attr("__version__") = FASTRETINA_VERSION;

  // Misuse surfaces as fastretina.errors.InvalidInput, a broken network as EngineError.
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const InvalidArgument& error) {
      py::set_error(py::module_::import("fastretina.errors").attr("InvalidInput"), error.what());
    } catch (const EngineError& error) {
      py::set_error(py::module_::import("fastretina.errors").attr("EngineError"), error.what());
    }
  });

  py::class_<Session>(m, "Session", "Threads and scratch memory of one caller.")
      .def(py::init<int>(), py::arg("threads") = 1)
      .def_static(
          "on_device",
          [](std::uintptr_t stream, const py::object& owner) {
            return std::make_unique<Session>(need_device(), reinterpret_cast<void*>(stream), owner);
          },
          py::arg("stream"), py::arg("owner"), "Of a stream (a cudaStream_t); owner: the object that keeps it.")
      .def_property_readonly("threads", [](const Session& s) { return s.context.threads(); })
      .def_property_readonly("workspace_bytes", [](const Session& s) { return s.workspace.capacity_bytes(); });

  m.def("simd_level", [] { return simd_level_name(simd_level()); });
  m.def("limit_simd_level", [](int level) { limit_simd_level(static_cast<SimdLevel>(level)); }, py::arg("level"));

  bind_device_array(m);
  bind_options(m);
  bind_transform(m);
  bind_image(m);
  bind_upsample(m);
  bind_nms(m);
  bind_detect(m);
  bind_describe(m);
  bind_match(m);
  bind_estimate(m);
  bind_refine(m);
  bind_warp(m);
  bind_quality(m);
  bind_pipeline(m);
  bind_device_pair(m);
}
