// Room 8, refine. A ridge map crosses as its levels, coarse to fine, (h, w) uint32 each, and the points, (N, 2)
// float32.
#include "bind_transform.h"
#include "refine/refine.h"

namespace fastretina::bindings {
namespace {

struct HeldMap {
  Array<std::uint32_t> level[kRidgeLevels];
  Array<float> points;
  int count = 0;
  RidgeMap map;
};

void hold(const py::tuple& parts, const char* argument, HeldMap& held) {
  constexpr const char* kWanted = "what ridges() returns: four levels, (h, w) uint32, and an (N, 2) float32 array";
  require(parts.size() == kRidgeLevels + 1, argument, std::to_string(parts.size()) + " parts", kWanted);
  for (std::size_t k = 0; k < kRidgeLevels; ++k) {
    held.level[k] = checked<std::uint32_t>(parts[k], argument, 2, kWanted);
    held.map.level[k] = {const_cast<std::uint32_t*>(held.level[k].data()), static_cast<int>(held.level[k].shape(1)),
                         static_cast<int>(held.level[k].shape(0))};
  }
  held.points = checked<float>(parts[kRidgeLevels], argument, 2, kWanted);
  require(held.points.shape(1) == 2, argument, shape_of(held.points), kWanted);
  require_finite(held.points.data(), held.points.size(), argument);
  held.count = static_cast<int>(held.points.shape(0));
  held.map.points = const_cast<float*>(held.points.data());
  held.map.count = &held.count;
  held.map.capacity = held.count;
}

py::tuple ridges(Session& session, const py::object& plane, const py::object& mask, float sigma_px, float saturation,
                 int rim_px, int max_points) {
  const auto plane_array = checked<float>(plane, "plane", 2, "a (H, W) float32 array");
  require_finite(plane_array.data(), plane_array.size(), "plane");
  const auto source = view(plane_array);
  Array<std::uint8_t> keep;
  auto mask_view = optional_mask(mask, "mask", source.height, source.width, keep);
  if (mask.is_none()) {
    keep = Array<std::uint8_t>({plane_array.shape(0), plane_array.shape(1)});
    std::fill_n(keep.mutable_data(), keep.size(), std::uint8_t{1});
    mask_view = view(keep);
  }
  require(max_points >= 0 && max_points <= 1 << 20, "max_points", std::to_string(max_points),
          "a value from 0 to 1048576");
  const RidgeOptions options{sigma_px, saturation, rim_px, max_points};
  RidgeMap map;
  Array<std::uint32_t> level[kRidgeLevels];
  for (int k = 0; k < kRidgeLevels; ++k) {
    const Size size = ridge_level_size({source.width, source.height}, k);
    level[k] = Array<std::uint32_t>({size.height, size.width});
    map.level[k] = mutable_view(level[k]);
  }
  Array<float> points({max_points, 2});
  int count = 0;
  map.points = points.mutable_data();
  map.count = &count;
  map.capacity = max_points;
  {
    py::gil_scoped_release release;
    cpu::ridges(session.context, session.workspace, source, mask_view, options, map);
  }
  return py::make_tuple(level[0], level[1], level[2], level[3], copy_rows(points.data(), count, 2));
}

py::tuple refine(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                 const Array<double>& params, const RefineOptions& options) {
  HeldMap f, m;
  hold(fixed, "fixed", f);
  hold(moving, "moving", m);
  const Transform start = transform_from(kind, params);
  Refinement out;
  {
    py::gil_scoped_release release;
    cpu::refine(session.context, session.workspace, f.map, m.map, start, options, &out);
  }
  return py::make_tuple(transform_to(out.T_fixed_moving), out.score_before, out.score_after, out.gain_nats,
                        out.shift_px, out.iterations, out.refused);
}

py::tuple refine_field(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                       const Array<double>& params, const FieldOptions& options) {
  HeldMap f, m;
  hold(fixed, "fixed", f);
  hold(moving, "moving", m);
  const Transform start = transform_from(kind, params);
  require(options.cells >= 1 && options.cells <= 64, "cells", std::to_string(options.cells), "a value from 1 to 64");
  std::vector<double> control(static_cast<std::size_t>(field_capacity(options)));
  FieldRefinement out;
  {
    py::gil_scoped_release release;
    cpu::refine_field(session.context, session.workspace, f.map, m.map, start, options, control.data(), &out);
  }
  return py::make_tuple(field_to(out.field), out.gain_nats, out.score_before, out.score_after, out.iterations);
}

py::tuple correlation(Session& session, const py::tuple& fixed, const py::tuple& moving, int kind,
                      const Array<double>& params) {
  HeldMap f, m;
  hold(fixed, "fixed", f);
  hold(moving, "moving", m);
  const Transform t = transform_from(kind, params);
  RidgeCorrelation out;
  {
    py::gil_scoped_release release;
    cpu::ridge_correlation(session.context, session.workspace, f.map, m.map, {&t, 1}, kRidgeRowStep, &out);
  }
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
