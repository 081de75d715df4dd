#include "array.h"
#include "upsample/upsample.h"

namespace fastretina::bindings {

void bind_upsample(py::module_& m) {
  m.attr("STRIDE") = kStride;

  m.def(
      "upsample",
      [](Session& session, const py::object& difference) {
        const auto source = checked<float>(difference, "difference", 2, "a (h, w) float32 array");
        require(source.size() > 0, "difference", shape_of(source), "at least 1 x 1");
        require_finite(source.data(), source.size(), "difference");
        Array<float> confidence({kStride * source.shape(0), kStride * source.shape(1)});
        const View<const float> in = view(source);
        const View<float> out = mutable_view(confidence);
        {
          py::gil_scoped_release release;
          cpu::upsample(session.context, session.workspace, in, out);
        }
        return confidence;
      },
      py::arg("session"), py::arg("difference"));
}

}  // namespace fastretina::bindings
