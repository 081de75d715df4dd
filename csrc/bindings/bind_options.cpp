// The options of every room as plain Python objects: their defaults are those of the C++ structs, the only home they have.
#include "array.h"
#include <pybind11/native_enum.h>

#include "pipeline.h"

namespace fastretina::bindings {
namespace {

template <class T>
py::class_<T> options(py::module_& m, const char* name) {
  return py::class_<T>(m, name).def(py::init<>());
}

#define FIELD(Struct, name) .def_readwrite(#name, &Struct::name)

void bind_front(py::module_& m) {
  options<ImageOptions>(m, "ImageOptions")
      FIELD(ImageOptions, working_size) FIELD(ImageOptions, multiple) FIELD(ImageOptions, dark_fraction)
      FIELD(ImageOptions, erode_px) FIELD(ImageOptions, clip);
  options<NmsOptions>(m, "NmsOptions")
      FIELD(NmsOptions, radius) FIELD(NmsOptions, max_keypoints) FIELD(NmsOptions, threshold);
  options<RidgeOptions>(m, "RidgeOptions") FIELD(RidgeOptions, sigma_px) FIELD(RidgeOptions, saturation)
      FIELD(RidgeOptions, rim_px) FIELD(RidgeOptions, max_points);
  options<FeatureOptions>(m, "FeatureOptions")
      FIELD(FeatureOptions, image) FIELD(FeatureOptions, detect) FIELD(FeatureOptions, ridges);
}

void bind_pair(py::module_& m) {
  options<MatchOptions>(m, "MatchOptions")
      FIELD(MatchOptions, precision) FIELD(MatchOptions, min_similarity) FIELD(MatchOptions, ratio);
  options<GuidedMatchOptions>(m, "GuidedMatchOptions")
      FIELD(GuidedMatchOptions, radius_px) FIELD(GuidedMatchOptions, min_similarity);
  options<EstimateOptions>(m, "EstimateOptions")
      FIELD(EstimateOptions, kind) FIELD(EstimateOptions, threshold_px) FIELD(EstimateOptions, confidence)
      FIELD(EstimateOptions, max_iterations) FIELD(EstimateOptions, seed) FIELD(EstimateOptions, sorted)
      FIELD(EstimateOptions, allow_mirror) FIELD(EstimateOptions, min_scale) FIELD(EstimateOptions, max_scale);
  options<UpgradeOptions>(m, "UpgradeOptions")
      FIELD(UpgradeOptions, max_kind) FIELD(UpgradeOptions, threshold_px) FIELD(UpgradeOptions, min_gain);
  options<RefineOptions>(m, "RefineOptions")
      FIELD(RefineOptions, kind) FIELD(RefineOptions, max_iterations) FIELD(RefineOptions, epsilon_px)
      FIELD(RefineOptions, max_shift_px) FIELD(RefineOptions, max_frame_shift_px) FIELD(RefineOptions, bend_px)
      FIELD(RefineOptions, samples_per_point) FIELD(RefineOptions, min_points) FIELD(RefineOptions, first_level);
  options<ConfidenceModel>(m, "ConfidenceModel")
      FIELD(ConfidenceModel, bias) FIELD(ConfidenceModel, ridge_correlation) FIELD(ConfidenceModel, log_inliers)
      FIELD(ConfidenceModel, inlier_ratio) FIELD(ConfidenceModel, overlap) FIELD(ConfidenceModel, inlier_rms_px)
      FIELD(ConfidenceModel, coverage) FIELD(ConfidenceModel, log_peak_to_sidelobe)
      FIELD(ConfidenceModel, inlier_similarity) FIELD(ConfidenceModel, log_attempts)
      FIELD(ConfidenceModel, log_anisotropy);
  options<FieldOptions>(m, "FieldOptions")
      FIELD(FieldOptions, cells) FIELD(FieldOptions, max_iterations) FIELD(FieldOptions, epsilon_px)
      FIELD(FieldOptions, bend_px) FIELD(FieldOptions, shift_px) FIELD(FieldOptions, samples_per_point)
      FIELD(FieldOptions, min_points) FIELD(FieldOptions, min_gain_nats) FIELD(FieldOptions, min_displacement_px)
      FIELD(FieldOptions, max_displacement_px) FIELD(FieldOptions, min_jacobian);
  options<QualityOptions>(m, "QualityOptions") FIELD(QualityOptions, confidence)
      FIELD(QualityOptions, min_contrast) FIELD(QualityOptions, min_keypoints) FIELD(QualityOptions, min_inliers)
      FIELD(QualityOptions, min_scale) FIELD(QualityOptions, max_scale) FIELD(QualityOptions, max_anisotropy)
      FIELD(QualityOptions, min_overlap) FIELD(QualityOptions, min_confidence)
      FIELD(QualityOptions, max_central_anisotropy);
  options<LadderOptions>(m, "LadderOptions") FIELD(LadderOptions, strong_confidence) FIELD(LadderOptions, max_rungs);
}

}  // namespace

void bind_options(py::module_& m) {
  py::native_enum<Precision>(m, "Precision", "enum.IntEnum")
      .value("f32", Precision::f32).value("bf16", Precision::bf16).value("f16", Precision::f16)
      .value("int8", Precision::i8).finalize();
  py::native_enum<TransformKind>(m, "TransformKind", "enum.IntEnum")
      .value("identity", TransformKind::identity).value("similarity", TransformKind::similarity)
      .value("affine", TransformKind::affine).value("homography", TransformKind::homography)
      .value("quadratic", TransformKind::quadratic).finalize();
  py::native_enum<TransformChoice>(m, "TransformChoice", "enum.IntEnum")
      .value("auto", TransformChoice::automatic).value("similarity", TransformChoice::similarity)
      .value("affine", TransformChoice::affine).value("homography", TransformChoice::homography)
      .value("quadratic", TransformChoice::quadratic).value("dense", TransformChoice::dense).finalize();
  bind_front(m);
  bind_pair(m);
  options<ModelOptions>(m, "ModelOptions") FIELD(ModelOptions, choice) FIELD(ModelOptions, quadratic_gain_nats)
      FIELD(ModelOptions, large_bend_px) FIELD(ModelOptions, large_bend_gain_nats)
      FIELD(ModelOptions, field_gain_nats);
  options<Options>(m, "Options")
      FIELD(Options, model) FIELD(Options, features) FIELD(Options, match) FIELD(Options, guided)
      FIELD(Options, estimate) FIELD(Options, upgrade) FIELD(Options, refine) FIELD(Options, field)
      FIELD(Options, quality) FIELD(Options, ladder);
}

#undef FIELD

}  // namespace fastretina::bindings
