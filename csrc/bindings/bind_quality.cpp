// Room 10, quality.
#include <limits>

#include "bind_transform.h"
#include "quality/quality.h"

namespace fastretina::bindings {
namespace {

void require_number(double value, const char* argument) {
  require(std::isfinite(value) && value >= -1, argument, std::to_string(value), "a finite number");
}
void require_count(int value, const char* argument) {
  require(value >= 0, argument, std::to_string(value), "0 or more");
}

py::dict to_dict(const Quality& q) {
  py::dict d;
  d["status"] = status_name(q.status);
  d["confidence"] = q.confidence;
  d["scale"] = q.scale;
  d["rotation_deg"] = q.rotation_deg;
  d["anisotropy"] = q.anisotropy;
  d["mirrored"] = q.mirrored;
  d["overlap"] = q.overlap;
  d["pole"] = q.pole;
  d["fold"] = q.fold;
  return d;
}

}  // namespace

void bind_quality(py::module_& m) {
  const QualityOptions o;
  m.def(
      "quality",
      [](const py::object& transform, const py::object& field, std::pair<int, int> fixed, std::pair<int, int> moving, double contrast_fixed,
         double contrast_moving, int keypoints_fixed, int keypoints_moving, int matches, int inliers,
         double inlier_rms_px, double coverage, double inlier_similarity, double ridge_correlation, double peak_to_sidelobe,
         int overlap_px, int attempts, double min_contrast,
         int min_keypoints, int min_inliers, double min_scale, double max_scale, double max_anisotropy,
         double min_overlap, double min_confidence, double max_central_anisotropy) {
        QualityInputs in;
        in.found = !transform.is_none();
        if (in.found) {
          const auto parts = transform.cast<py::tuple>();
          in.T_fixed_moving =
              transform_from(parts[0].cast<int>(), checked<double>(parts[1], "params", 1, "a (12,) float64 array"));
        }
        HeldField held;
        hold(field, held);
        in.field = held.field;
        in.fixed = {fixed.first, fixed.second};
        in.moving = {moving.first, moving.second};
        require(in.fixed.width > 0 && in.fixed.height > 0, "fixed_size", "an empty frame", "positive sides");
        require(in.moving.width > 0 && in.moving.height > 0, "moving_size", "an empty frame", "positive sides");
        require_number(contrast_fixed, "contrast_fixed");
        require_number(contrast_moving, "contrast_moving");
        require_number(inlier_rms_px, "inlier_rms_px");
        require_number(coverage, "coverage");
        require_number(inlier_similarity, "inlier_similarity");
        require_number(ridge_correlation, "ridge_correlation");
        require_number(peak_to_sidelobe, "peak_to_sidelobe");
        require_count(keypoints_fixed, "keypoints_fixed");
        require_count(keypoints_moving, "keypoints_moving");
        require_count(matches, "matches");
        require_count(inliers, "inliers");
        require_count(overlap_px, "overlap_px");
        require(attempts >= 1, "attempts", std::to_string(attempts), "1 or more");
        in.attempts = attempts;
        in.contrast_fixed = contrast_fixed, in.contrast_moving = contrast_moving;
        in.keypoints_fixed = keypoints_fixed, in.keypoints_moving = keypoints_moving;
        in.matches = matches, in.inliers = inliers, in.inlier_rms_px = inlier_rms_px, in.coverage = coverage;
        in.inlier_similarity = inlier_similarity, in.ridge_correlation = ridge_correlation;
        in.peak_to_sidelobe = peak_to_sidelobe, in.overlap_px = overlap_px;
        return to_dict(quality(in, {QualityOptions{}.confidence, min_contrast, min_keypoints, min_inliers, min_scale, max_scale, max_anisotropy,
                                    min_overlap, min_confidence, max_central_anisotropy}));
      },
      py::arg("transform"), py::arg("field"), py::arg("fixed_size"), py::arg("moving_size"), py::kw_only(), py::arg("contrast_fixed"),
      py::arg("contrast_moving"), py::arg("keypoints_fixed"), py::arg("keypoints_moving"), py::arg("matches"),
      py::arg("inliers"), py::arg("inlier_rms_px"), py::arg("coverage"),
      py::arg("inlier_similarity"), py::arg("ridge_correlation"), py::arg("peak_to_sidelobe"),
      py::arg("overlap_px"), py::arg("attempts"), py::arg("min_contrast") = o.min_contrast, py::arg("min_keypoints") = o.min_keypoints,
      py::arg("min_inliers") = o.min_inliers, py::arg("min_scale") = o.min_scale, py::arg("max_scale") = o.max_scale,
      py::arg("max_anisotropy") = o.max_anisotropy, py::arg("min_overlap") = o.min_overlap,
      py::arg("min_confidence") = o.min_confidence,
      py::arg("max_central_anisotropy") = o.max_central_anisotropy);
}

}  // namespace fastretina::bindings
