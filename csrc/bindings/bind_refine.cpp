// Room 8, refine. A ridge map crosses as its levels, coarse to fine, (h, w) uint32 each, and the points, (N, 2)
// float32.
#include <optional>

#include "bind_transform.h"
#include "placed.h"
#include "refine/refine.h"

namespace fastretina::bindings {
namespace {

constexpr const char* kWanted = "what ridges() returns: four levels, (h, w) uint32, and an (N, 2) float32 array";

class HeldMap {
 public:
  HeldMap(Session& session, const py::tuple& parts, const char* argument) {
    require(parts.size() == kRidgeLevels + 1, argument, std::to_string(parts.size()) + " parts", kWanted);
    for (std::size_t k = 0; k < kRidgeLevels; ++k) {
      level_[k] = {session, parts[k], argument, 2, kWanted};
      const View<const RidgePixel> view = level_[k].view();
      map.level[k] = {const_cast<RidgePixel*>(view.data), view.width, view.height};
    }
    points_ = {session, parts[kRidgeLevels], argument, 2, kWanted};
    require(points_.shape(1) == 2, argument, shape_of(points_), kWanted);
    require_finite(points_, argument);
    map.points = const_cast<float*>(points_.data());
    map.capacity = static_cast<int>(points_.shape(0));
    count_.emplace(session, map.capacity);
    map.count = count_->at();
  }
  RidgeMap map;

 private:
  Input<RidgePixel> level_[kRidgeLevels];
  Input<float> points_;
  std::optional<Place<int>> count_;
};

py::tuple ridges(Session& session, const py::object& plane, const py::object& mask, float sigma_px, float saturation,
                 int rim_px, int max_points) {
  const Input<float> source(session, plane, "plane", 2, "a (H, W) float32 array");
  require_finite(source, "plane");
  require(max_points >= 0 && max_points <= 1 << 20, "max_points", std::to_string(max_points),
          "a value from 0 to 1048576");
  const View<const float> in = source.view();
  const Workspace::Frame frame(session.workspace);
  Input<std::uint8_t> keep;
  View<const std::uint8_t> inside = optional_mask(session, mask, "mask", in.height, in.width, keep);
  if (mask.is_none()) {
    const std::vector<std::uint8_t> ones(static_cast<std::size_t>(source.size()), 1);
    const View<std::uint8_t> everywhere = session.workspace.take_plane<std::uint8_t>(in.width, in.height);
    if (session.device == nullptr)
      std::copy(ones.begin(), ones.end(), everywhere.data);
    else
      session.device->copy(everywhere.data, ones.data(), ones.size(), session.context.stream);
    inside = everywhere;
  }
  const RidgeOptions options{sigma_px, saturation, rim_px, max_points};
  RidgeMap map;
  py::list parts;
  for (int k = 0; k < kRidgeLevels; ++k) {
    const Size size = ridge_level_size({in.width, in.height}, k);
    const OutputOf<RidgePixel> level(session, {size.height, size.width});
    map.level[k] = level.view();
    parts.append(level.all());
  }
  const OutputOf<float> points(session, {max_points, 2});
  Place<int> count(session);
  map.points = points.data();
  map.count = count.at();
  map.capacity = max_points;
  {
    py::gil_scoped_release release;
    session.backend.ridges(session.context, session.workspace, in, inside, options, map);
  }
  parts.append(points.first(count.get()));
  return py::tuple(parts);
}

py::tuple refine(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                 const Array<double>& params, const RefineOptions& options) {
  const Workspace::Frame frame(session.workspace);
  HeldMap f(session, fixed, "fixed"), m(session, moving, "moving");
  Place<Transform> start(session, transform_from(kind, params));
  Place<Refinement> place(session);
  {
    py::gil_scoped_release release;
    session.backend.refine(session.context, session.workspace, f.map, m.map, *start.at(), options, place.at());
  }
  const Refinement& out = place.get();
  return py::make_tuple(transform_to(out.T_fixed_moving), out.score_before, out.score_after, out.gain_nats,
                        out.shift_px, out.iterations, out.refused);
}

py::tuple refine_field(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                       const Array<double>& params, const FieldOptions& options) {
  const Workspace::Frame frame(session.workspace);
  HeldMap f(session, fixed, "fixed"), m(session, moving, "moving");
  Place<Transform> start(session, transform_from(kind, params));
  require(options.cells >= 1 && options.cells <= 64, "cells", std::to_string(options.cells), "a value from 1 to 64");
  std::vector<double> host(static_cast<std::size_t>(field_capacity(options)));
  double* control = session.device == nullptr ? host.data() : session.workspace.take<double>(host.size());
  Place<FieldRefinement> place(session);
  {
    py::gil_scoped_release release;
    session.backend.refine_field(session.context, session.workspace, f.map, m.map, *start.at(), options, control,
                                 place.at());
  }
  FieldRefinement out = place.get();
  if (session.device != nullptr && !out.field.empty()) {  // a transform is the host's
    const auto numbers = static_cast<std::size_t>(2 * out.field.rows * out.field.columns);
    session.device->copy(host.data(), control, numbers * sizeof(double), session.context.stream);
    session.device->wait(session.context.stream);
    out.field.control = host.data();
  }
  return py::make_tuple(field_to(out.field), out.gain_nats, out.score_before, out.score_after, out.iterations);
}

py::tuple correlation(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                      const Array<double>& params) {
  const Workspace::Frame frame(session.workspace);
  HeldMap f(session, fixed, "fixed"), m(session, moving, "moving");
  Place<Transform> t(session, transform_from(kind, params));
  Place<RidgeCorrelation> place(session);
  {
    py::gil_scoped_release release;
    session.backend.ridge_correlation(session.context, session.workspace, f.map, m.map, {t.at(), 1}, kRidgeRowStep,
                                      place.at());
  }
  const RidgeCorrelation& out = place.get();
  return py::make_tuple(out.score, out.overlap_px);
}

}  // namespace

void bind_refine(py::module_& m) {
  const RidgeOptions r;
  m.def("ridges", &ridges, py::arg("session"), py::arg("plane"), py::arg("mask") = py::none(), py::kw_only(),
        py::arg("sigma_px") = r.sigma_px, py::arg("saturation") = r.saturation, py::arg("rim_px") = r.rim_px,
        py::arg("max_points") = r.max_points);
  const RefineOptions o;
  m.def(
      "refine",
      [](Session& session, const py::tuple& fixed, const py::tuple& moving, int start_kind, const Array<double>& params,
         int kind, int max_iterations, double epsilon_px, double max_shift_px, double max_frame_shift_px,
         double bend_px, double samples_per_point, int min_points, int first_level) {
        require(kind >= 0 && kind <= 4, "kind", std::to_string(kind), "0 (the start's), 1, 2, 3 or 4");
        return refine(session, fixed, moving, start_kind, params,
                      {static_cast<TransformKind>(kind), max_iterations, epsilon_px, max_shift_px, max_frame_shift_px,
                       bend_px, samples_per_point, min_points, first_level});
      },
      py::arg("session"), py::arg("fixed"), py::arg("moving"), py::arg("start_kind"), py::arg("params"), py::kw_only(),
      py::arg("kind") = static_cast<int>(o.kind), py::arg("max_iterations") = o.max_iterations,
      py::arg("epsilon_px") = o.epsilon_px, py::arg("max_shift_px") = o.max_shift_px,
      py::arg("max_frame_shift_px") = o.max_frame_shift_px, py::arg("bend_px") = o.bend_px,
      py::arg("samples_per_point") = o.samples_per_point, py::arg("min_points") = o.min_points,
      py::arg("first_level") = o.first_level);
  const FieldOptions d;
  m.def(
      "refine_field",
      [](Session& session, const py::tuple& fixed, const py::tuple& moving, int kind, const Array<double>& params,
         int cells, int max_iterations, double epsilon_px, double bend_px, double shift_px, double samples_per_point,
         int min_points, double min_gain_nats, double min_displacement_px, double max_displacement_px,
         double min_jacobian) {
        return refine_field(session, fixed, moving, kind, params,
                            {cells, max_iterations, epsilon_px, bend_px, shift_px, samples_per_point, min_points,
                             min_gain_nats, min_displacement_px, max_displacement_px, min_jacobian});
      },
      py::arg("session"), py::arg("fixed"), py::arg("moving"), py::arg("kind"), py::arg("params"), py::kw_only(),
      py::arg("cells") = d.cells, py::arg("max_iterations") = d.max_iterations, py::arg("epsilon_px") = d.epsilon_px,
      py::arg("bend_px") = d.bend_px, py::arg("shift_px") = d.shift_px,
      py::arg("samples_per_point") = d.samples_per_point, py::arg("min_points") = d.min_points,
      py::arg("min_gain_nats") = d.min_gain_nats, py::arg("min_displacement_px") = d.min_displacement_px,
      py::arg("max_displacement_px") = d.max_displacement_px, py::arg("min_jacobian") = d.min_jacobian);
  m.def("ridge_correlation", &correlation, py::arg("session"), py::arg("fixed"), py::arg("moving"), py::arg("kind"),
        py::arg("params"));
}

}  // namespace fastretina::bindings
