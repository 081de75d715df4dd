// The pipeline with a network that lives in Python: one call registers a pair.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "python_image.h"
#include "bind_transform.h"
#include "network/class_difference.h"
#include "pipeline.h"
#include "pipeline_python.h"

namespace fastretina::bindings {
namespace {

// What the network is fed with and answers, as Python arrays.
constexpr const char *kMaps = "engine output 0 (class maps)", *kDescriptors = "engine output 1 (descriptors)";

[[noreturn]] void reject(const char* what, const std::string& got, const char* expected) {
  throw EngineError(std::string(what) + ": got " + got + ", expected " + expected);
}

std::string kind_of(const py::object& value) {
  if (py::isinstance<py::array>(value)) return shape_of(py::reinterpret_borrow<py::array>(value));
  return py::str(py::type::of(value)).cast<std::string>();
}

// `value` as an aligned float32 array of this shape, in any memory order.
template <class Accepted>
Accepted checked_output(const py::object& value, const char* what, int channels, int h, int w, const char* expected) {
  const auto array = Accepted::ensure(value);
  if (!array) reject(what, kind_of(value), expected);
  const bool fits = array.ndim() == 3 && array.shape(0) == channels && array.shape(1) == h && array.shape(2) == w;
  if (!fits) reject(what, shape_of(array), expected);
  return array;
}

// An engine written in Python: an object with `multiple`, `dims` and run(plane (H, W) float32) -> (class maps
// (2, H/4, W/4) float32, descriptors (D, H/4, W/4) float32 in any memory order). The plane is read-only, and gone after
// the call.
class PythonNetwork : public Network {
 public:
  explicit PythonNetwork(py::object engine)
      : engine_(std::move(engine)),
        multiple_(engine_.attr("multiple").cast<int>()),
        dims_(engine_.attr("dims").cast<int>()) {
    if (multiple_ < 1 || multiple_ % kStride != 0)
      reject("engine.multiple", std::to_string(multiple_), "a multiple of 4");
    if (dims_ < 1) reject("engine.dims", std::to_string(dims_), "1 or more");
  }
  ~PythonNetwork() override {
    const py::gil_scoped_acquire gil;
    engine_ = {};
    descriptors_ = {};
  }

  NetworkOutput run(View<const float> plane) override {
    const py::gil_scoped_acquire gil;
    const Array<float> input({plane.height, plane.width}, plane.data, py::none());  // shares the memory
    input.attr("setflags")(py::arg("write") = false);
    const py::object output = engine_.attr("run")(input);
    if (!py::isinstance<py::sequence>(output) || py::len(output) != 2)
      reject("engine output", kind_of(output), "a pair (class maps, descriptors)");
    const int h = plane.height / kStride, w = plane.width / kStride;
    const py::object maps = output[py::int_(0)], descriptors = output[py::int_(1)];
    const auto logits = checked_output<Array<float>>(maps, kMaps, 2, h, w, "a (2, H/4, W/4) float32 array");
    class_difference(logits.data(), static_cast<std::size_t>(h) * static_cast<std::size_t>(w), difference_);
    descriptors_ = checked_output<AnyOrder>(descriptors, kDescriptors, dims_, h, w, "a (D, H/4, W/4) float32 array");
    const auto stride = [&](int axis) { return descriptors_.strides(axis) / static_cast<py::ssize_t>(sizeof(float)); };
    return {{difference_.data(), w, h}, {descriptors_.data(), dims_, h, w, stride(0), stride(1), stride(2)}};
  }

  int multiple() const override { return multiple_; }
  int dims() const override { return dims_; }

 private:
  using AnyOrder = py::array_t<float, static_cast<int>(py::array::forcecast) | kAligned>;

  py::object engine_;
  int multiple_, dims_;
  std::vector<float> difference_;
  AnyOrder descriptors_;  // keeps the last output alive
};

py::dict quality_dict(const Candidate& c) {
  const QualityInputs& m = c.measured;
  const Quality& q = c.quality;
  py::dict d;
  d["ridge_correlation"] = m.ridge_correlation;
  d["peak_to_sidelobe"] = m.peak_to_sidelobe;
  d["matches"] = m.matches;
  d["inliers"] = m.inliers;
  d["inlier_rms_px"] = m.inlier_rms_px;
  d["coverage"] = m.coverage;
  d["inlier_similarity"] = m.inlier_similarity;
  d["attempts"] = m.attempts;
  d["overlap"] = q.overlap;
  d["scale"] = q.scale;
  d["rotation_deg"] = q.rotation_deg;
  d["anisotropy"] = q.anisotropy;
  d["pole"] = q.pole;
  d["fold"] = q.fold;
  d["keypoints_fixed"] = m.keypoints_fixed;
  d["keypoints_moving"] = m.keypoints_moving;
  d["contrast_fixed"] = m.contrast_fixed;
  d["contrast_moving"] = m.contrast_moving;
  return d;
}

py::dict timings_dict(const Timings& t) {
  py::dict d;
  d["image"] = t.image;
  d["network"] = t.network;
  d["detect"] = t.detect;
  d["describe"] = t.describe;
  d["match"] = t.match;
  d["estimate"] = t.estimate;
  d["refine"] = t.refine;
  d["quality"] = t.quality;
  return d;
}

py::tuple pose_tuple(const Pose& pose) { return py::make_tuple(pose.scale, 45 * pose.eighth_turns, pose.mirrored); }

}  // namespace

py::dict to_python(const Registration& r) {
  const Candidate& c = r.best;
  const auto n = static_cast<py::ssize_t>(c.score.size());
  py::dict d;
  d["status"] = status_name(c.quality.status);
  d["confidence"] = c.quality.confidence;
  d["transform"] = c.found ? py::object(transform_to(c.T_fixed_moving)) : py::none();
  d["field"] = c.found ? field_to(c.field()) : py::none();
  d["rung"] = c.rung;
  d["attempts"] = r.attempts;
  d["fixed_pose"] = pose_tuple(c.fixed_pose);
  d["moving_pose"] = pose_tuple(c.moving_pose);
  d["fixed_xy"] = copy_rows(c.fixed_xy.data(), n, 2);
  d["moving_xy"] = copy_rows(c.moving_xy.data(), n, 2);
  d["score"] = copy_rows(c.score.data(), n);
  d["inlier"] = copy_rows(c.inlier.data(), n);
  d["quality"] = quality_dict(c);
  d["timings_ms"] = timings_dict(r.timings);
  return d;
}

py::array_t<float> keypoints_of(const Transform& T_network_input, const Keypoints& keypoints) {
  Transform back;
  invert(T_network_input, back);
  const int n = *keypoints.count;
  py::array_t<float> out({static_cast<py::ssize_t>(n), py::ssize_t{2}});
  auto xy = out.mutable_unchecked<2>();
  for (int i = 0; i < n; ++i) {
    const Point q = apply(back, {keypoints.xy[2 * i], keypoints.xy[2 * i + 1]});
    xy(i, 0) = static_cast<float>(q.x);
    xy(i, 1) = static_cast<float>(q.y);
  }
  return out;
}

py::array_t<float> heatmap_of(View<const float> difference, Size content) {
  const int h = (content.height + kStride - 1) / kStride, w = (content.width + kStride - 1) / kStride;
  py::array_t<float> out({h, w});
  for (int y = 0; y < h; ++y) std::copy_n(difference.row(y), w, out.mutable_data(y, 0));
  return out;
}

void bind_pipeline(py::module_& m) {
  py::class_<Prepared>(m, "Prepared", "The features of one image; belongs to the pipeline that made it.")
      .def_property_readonly(
          "keypoints", [](const Prepared& p) { return keypoints_of(p.first().T_network_input, p.first().keypoints); })
      .def_property_readonly("timings_ms", [](const Prepared& p) { return timings_dict(p.timings); })
      .def_property_readonly(
          "heatmap", [](const Prepared& p) { return heatmap_of(p.first().difference, p.first().content); })
      .def_property_readonly("size", [](const Prepared& p) { return py::make_tuple(p.first().input.width, p.first().input.height); });

  py::class_<fastretina::Session>(m, "Pipeline", "The rooms in a row, behind one call. One thread at a time.")
      .def(py::init([](py::object engine, const Options& options, int threads) {
             return std::make_unique<fastretina::Session>(std::make_shared<PythonNetwork>(std::move(engine)), options, threads);
           }),
           py::arg("engine"), py::arg("options"), py::arg("threads"))
      .def("prepare",
           [](fastretina::Session& session, const py::object& image) {
             const PythonImage input(image, "image");
             auto prepared = std::make_unique<Prepared>();
             const py::gil_scoped_release release;
             session.prepare(input.image(), *prepared);
             return prepared;
           },
           py::arg("image"))
      .def("register",
           [](fastretina::Session& session, Prepared& fixed, Prepared& moving) {
             const Registration* result;
             {
               const py::gil_scoped_release release;
               result = &session.register_pair(fixed, moving);
             }
             return to_python(*result);
           },
           py::arg("fixed"), py::arg("moving"))
      .def_property_readonly("workspace_bytes", [](fastretina::Session& s) { return s.workspace().capacity_bytes(); });
}

}  // namespace fastretina::bindings
