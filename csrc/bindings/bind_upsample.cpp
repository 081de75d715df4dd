#include "placed.h"
#include "upsample/upsample.h"

namespace fastretina::bindings {

void bind_upsample(py::module_& m) {
  m.attr("STRIDE") = kStride;

  m.def(
      "upsample",
      [](Session& session, const py::object& difference) {
        const Input<float> source(session, difference, "difference", 2, "a (h, w) float32 array");
        require(source.size() > 0, "difference", shape_of(source), "at least 1 x 1");
        require_finite(source, "difference");
        const OutputOf<float> confidence(session, {kStride * source.shape(0), kStride * source.shape(1)});
        {
          py::gil_scoped_release release;
          session.backend.upsample(session.context, session.workspace, source.view(), confidence.view());
        }
        return confidence.all();
      },
      py::arg("session"), py::arg("difference"));
}

}  // namespace fastretina::bindings
