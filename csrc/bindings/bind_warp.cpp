#include "bind_transform.h"
#include "python_image.h"
#include "warp/warp.h"

namespace fastretina::bindings {
namespace {

py::tuple warp(Session& session, const py::object& value, int kind, const Array<double>& params,
               const py::object& field, int height, int width, int interpolation) {
  const PythonImage python(value, "moving", PythonImage::Channels::up_to_four, session.device != nullptr);
  const Image& moving = python.image();
  constexpr int kLongest = 1 << 28;
  require(height > 0 && width > 0 && height < kLongest && width < kLongest, "size",
          "(" + std::to_string(height) + ", " + std::to_string(width) + ")", "a positive height and width below 2^28");
  HeldField held;
  hold(field, held);
  const Workspace::Frame frame(session.workspace);
  Deformation deformation{transform_from(kind, params), held.field};
  if (session.device != nullptr && !held.field.empty()) {
    const auto numbers = static_cast<std::size_t>(held.control.size());
    double* control = session.workspace.take<double>(numbers);
    session.device->copy(control, held.field.control, numbers * sizeof(double), session.context.stream);
    deformation.field.control = control;
  }
  Place<Deformation> t(session, deformation);

  Shape shape{height, width};
  if (python.block().ndim() == 3) shape.push_back(python.block().shape[2]);
  const Output result(session, python.block().dtype, shape);
  const OutputOf<std::uint8_t> valid(session, {height, width});
  const py::ssize_t row_bytes = static_cast<py::ssize_t>(width) * moving.channels * python.block().dtype.itemsize();
  const MutableImage out{result.data(), width, height, moving.channels, row_bytes, moving.type};
  {
    py::gil_scoped_release unlocked;
    session.backend.warp(session.context, session.workspace, moving, *t.at(), {static_cast<Interpolation>(interpolation)},
                         out, valid.view());
  }
  return py::make_tuple(result.all(), valid.all());
}

}  // namespace

void bind_warp(py::module_& m) {
  const WarpOptions defaults;
  m.def("warp", warp, py::arg("session"), py::arg("moving"), py::arg("kind"), py::arg("params"), py::arg("field"),
        py::arg("height"), py::arg("width"), py::kw_only(), py::arg("interpolation") = static_cast<int>(defaults.interpolation));

  py::dict options;
  options["interpolation"] = static_cast<int>(defaults.interpolation);
  m.attr("WARP_DEFAULTS") = options;
}

}  // namespace fastretina::bindings
