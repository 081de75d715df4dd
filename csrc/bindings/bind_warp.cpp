#include "bind_transform.h"
#include "python_image.h"
#include "warp/warp.h"

namespace fastretina::bindings {
namespace {

py::tuple warp(Session& session, const py::object& value, int kind, const Array<double>& params,
               const py::object& field, int height, int width, int interpolation) {
  const PythonImage python(value, "moving", PythonImage::Channels::up_to_four);
  const Image& moving = python.image();
  constexpr int kLongest = 1 << 28;
  require(height > 0 && width > 0 && height < kLongest && width < kLongest, "size",
          "(" + std::to_string(height) + ", " + std::to_string(width) + ")", "a positive height and width below 2^28");
  HeldField held;
  hold(field, held);
  const Deformation t{transform_from(kind, params), held.field};

  std::vector<py::ssize_t> shape{height, width};
  if (python.array().ndim() == 3) shape.push_back(python.array().shape(2));
  py::array result(python.array().dtype(), shape);
  Array<std::uint8_t> valid({height, width});
  const MutableImage out{result.mutable_data(), width, height, moving.channels, result.strides(0), moving.type};
  const auto mask = mutable_view(valid);
  {
    py::gil_scoped_release unlocked;
    cpu::warp(session.context, session.workspace, moving, t, {static_cast<Interpolation>(interpolation)}, out, mask);
  }
  return py::make_tuple(result, valid);
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
