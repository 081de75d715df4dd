// estimate and upgrade: point pairs as (N, 2) float32 arrays; a transform as (kind, params).
#include <pybind11/stl.h>

#include <algorithm>

#include "bind_transform.h"
#include "estimate/estimate.h"
#include "placed.h"

namespace fastretina::bindings {
namespace {

struct HeldPairs {
  HeldPairs(Session& session, const py::object& fixed_value, const py::object& moving_value,
            const py::object& weight_value)
      : fixed(session, fixed_value, "fixed_xy", 2, kShape),
        moving(session, moving_value, "moving_xy", 2, kShape),
        size(static_cast<int>(fixed.shape(0))),
        count(session, size) {
    require(fixed.shape(1) == 2, "fixed_xy", shape_of(fixed), kShape);
    require(moving.shape(1) == 2, "moving_xy", shape_of(moving), kShape);
    require(moving.shape(0) == fixed.shape(0), "moving_xy", shape_of(moving), "as many rows as fixed_xy");
    require(fixed.shape(0) <= (1 << 20), "fixed_xy", shape_of(fixed), "at most 2^20 rows");
    require_finite(fixed, "fixed_xy");
    require_finite(moving, "moving_xy");
    weighted = !weight_value.is_none();
    if (!weighted) return;
    weight = {session, weight_value, "weight", 1, "None or an (N,) float32 array"};
    require(weight.shape(0) == fixed.shape(0), "weight", shape_of(weight), "as many entries as fixed_xy has rows");
    require_finite(weight, "weight");
    for (py::ssize_t i = 0; i < weight.size() && session.device == nullptr; ++i)
      if (weight.data()[i] < 0) throw InvalidArgument("weight", "a negative entry", "entries >= 0");
  }
  PointPairs view() { return {fixed.data(), moving.data(), weighted ? weight.data() : nullptr, count.at(), size}; }
  static constexpr const char* kShape = "an (N, 2) float32 array";
  Input<float> fixed, moving, weight;
  bool weighted = false;
  int size;
  Place<int> count;
};

TransformKind kind_from(const std::string& kind, const char* argument) {
  for (int k = 1; k < 5; ++k)
    if (kind == kKindNames[k]) return static_cast<TransformKind>(k);
  throw InvalidArgument(argument, "'" + kind + "'", "'similarity', 'affine', 'homography' or 'quadratic'");
}

void require_option(bool ok, const char* name, double got, const char* allowed) {
  require(ok, name, std::to_string(got), allowed);
}

py::tuple result_of(const Estimate& e, const Output& inlier) {
  return py::make_tuple(transform_to(e.T_fixed_moving), e.found, inlier.all(), e.iterations, e.cost, e.rms_px,
                        e.coverage);
}

}  // namespace

void bind_estimate(py::module_& m) {
  using namespace py::literals;
  const EstimateOptions d;
  m.attr("ESTIMATE_DEFAULTS") = py::dict(
      "kind"_a = kKindNames[static_cast<int>(d.kind)], "threshold_px"_a = d.threshold_px, "confidence"_a = d.confidence,
      "max_iterations"_a = d.max_iterations, "seed"_a = d.seed, "sorted"_a = d.sorted,
      "allow_mirror"_a = d.allow_mirror, "min_scale"_a = d.min_scale, "max_scale"_a = d.max_scale);
  m.def(
      "estimate",
      [](Session& session, const py::object& fixed, const py::object& moving, const py::object& weight,
         const std::string& kind, double threshold_px, double confidence, int max_iterations, std::uint64_t seed,
         bool sorted, bool allow_mirror, double min_scale, double max_scale) {
        const Workspace::Frame frame(session.workspace);
        HeldPairs held(session, fixed, moving, weight);
        const EstimateOptions o{kind_from(kind, "kind"),
                                threshold_px,
                                confidence,
                                max_iterations,
                                seed,
                                sorted,
                                allow_mirror,
                                min_scale,
                                max_scale};
        require_option(threshold_px > 0 && threshold_px <= 1e4, "threshold_px", threshold_px, "in (0, 10000]");
        require_option(confidence > 0 && confidence < 1, "confidence", confidence, "in (0, 1)");
        require_option(max_iterations >= 1 && max_iterations <= 10000000, "max_iterations", max_iterations,
                       "1...10000000");
        require_option(min_scale > 0 && min_scale <= max_scale, "min_scale", min_scale, "in (0, max_scale]");
        require_option(std::isfinite(max_scale), "max_scale", max_scale, "finite");
        const OutputOf<std::uint8_t> inlier(session, {held.size});
        Place<Estimate> out(session);
        {
          const PointPairs pairs = held.view();
          py::gil_scoped_release release;
          session.backend.estimate(session.context, session.workspace, pairs, o, out.at(), inlier.data());
        }
        return result_of(out.get(), inlier);
      },
      py::arg("session"), py::arg("fixed_xy"), py::arg("moving_xy"), py::arg("weight") = py::none(), py::kw_only(),
      py::arg("kind") = kKindNames[static_cast<int>(d.kind)], py::arg("threshold_px") = d.threshold_px,
      py::arg("confidence") = d.confidence, py::arg("max_iterations") = d.max_iterations, py::arg("seed") = d.seed,
      py::arg("sorted") = d.sorted, py::arg("allow_mirror") = d.allow_mirror, py::arg("min_scale") = d.min_scale,
      py::arg("max_scale") = d.max_scale);

  const UpgradeOptions u;
  m.attr("UPGRADE_DEFAULTS") = py::dict("max_kind"_a = kKindNames[static_cast<int>(u.max_kind)],
                                        "threshold_px"_a = u.threshold_px, "min_gain"_a = u.min_gain);
  m.def(
      "upgrade",
      [](Session& session, const py::object& fixed, const py::object& moving, const py::object& weight, int start_kind,
         const Array<double>& start_params, std::pair<int, int> fixed_size, std::pair<int, int> moving_size,
         const std::string& max_kind, double threshold_px, double min_gain) {
        const Workspace::Frame frame(session.workspace);
        HeldPairs held(session, fixed, moving, weight);
        Place<Transform> start(session, transform_from(start_kind, start_params));
        const UpgradeOptions o{kind_from(max_kind, "max_kind"), threshold_px, min_gain};
        require_option(threshold_px > 0 && threshold_px <= 1e4, "threshold_px", threshold_px, "in (0, 10000]");
        require_option(min_gain >= 0 && min_gain < 1, "min_gain", min_gain, "in [0, 1)");
        const auto size_from = [](std::pair<int, int> size, const char* argument) {
          require(size.first > 0 && size.second > 0, argument,
                  std::to_string(size.first) + " x " + std::to_string(size.second), "(width, height), both positive");
          return Size{size.first, size.second};
        };
        const Size fixed_frame = size_from(fixed_size, "fixed_size"),
                   moving_frame = size_from(moving_size, "moving_size");
        const OutputOf<std::uint8_t> inlier(session, {held.size});
        Place<Estimate> out(session);
        {
          const PointPairs pairs = held.view();
          py::gil_scoped_release release;
          session.backend.upgrade(session.context, session.workspace, pairs, *start.at(), fixed_frame, moving_frame, o,
                                  out.at(), inlier.data());
        }
        return result_of(out.get(), inlier);
      },
      py::arg("session"), py::arg("fixed_xy"), py::arg("moving_xy"), py::arg("weight"), py::arg("start_kind"),
      py::arg("start_params"), py::arg("fixed_size"), py::arg("moving_size"), py::kw_only(),
      py::arg("max_kind") = kKindNames[static_cast<int>(u.max_kind)], py::arg("threshold_px") = u.threshold_px,
      py::arg("min_gain") = u.min_gain);
}

}  // namespace fastretina::bindings
