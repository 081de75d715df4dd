// The extension module: only the list of what it binds.
#include "array.h"
#include "core/simd.h"

namespace py = pybind11;

namespace fastretina::bindings {
void bind_transform(py::module_& m);
#define ROOM(name) void bind_##name(py::module_& m);
#include "rooms.inc"
#undef ROOM
}  // namespace fastretina::bindings

PYBIND11_MODULE(_core, m) {
  using namespace fastretina;
  using namespace fastretina::bindings;
  m.doc() = "The native rooms of fastretina; use fastretina.ops.";
  m.attr("__version__") = FASTRETINA_VERSION;

  // Misuse surfaces as fastretina.errors.InvalidInput.
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const InvalidArgument& error) {
      py::set_error(py::module_::import("fastretina.errors").attr("InvalidInput"), error.what());
    }
  });

  py::class_<Session>(m, "Session", "Threads and scratch memory of one caller.")
      .def(py::init<int>(), py::arg("threads") = 1)
      .def_property_readonly("threads", [](const Session& s) { return s.context.threads(); })
      .def_property_readonly("workspace_bytes", [](const Session& s) { return s.workspace.capacity_bytes(); });

  m.def("simd_level", [] { return simd_level_name(simd_level()); });
  m.def("limit_simd_level", [](int level) { limit_simd_level(static_cast<SimdLevel>(level)); }, py::arg("level"));

  bind_transform(m);
#define ROOM(name) bind_##name(m);
#include "rooms.inc"
#undef ROOM
}
