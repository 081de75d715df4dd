#include "quality/quality.h"

#include <algorithm>
#include <cmath>

#include "core/field.h"
#include "quality/quality_math.h"

namespace fastretina {
namespace {

constexpr int kGrid = 17;  // points a side at which the shape of the map is looked at

// Which side of a homography's pole a point is on; 1 for the other kinds.
double side(const Transform& t, Point p) {
  return t.kind == TransformKind::homography ? t.p[6] * p.x + t.p[7] * p.y + t.p[8] : 1;
}

void shape(const Deformation& t, Size moving, Quality& out) {
  const Point centre{(moving.width - 1) / 2.0, (moving.height - 1) / 2.0};
  const Jacobian at_centre = jacobian(t, centre);
  const double determinant = at_centre.determinant(), centre_side = side(t.base, centre);
  out.scale = std::sqrt(std::abs(determinant));
  out.rotation_deg = quality_math::rotation_deg(at_centre);
  out.mirrored = determinant < 0;
  out.central_anisotropy = quality_math::anisotropy(at_centre);
  out.pole = !(std::abs(centre_side) > 0);
  out.fold = !(std::abs(determinant) > 0);
  for (int iy = 0; iy < kGrid; ++iy)
    for (int ix = 0; ix < kGrid; ++ix) {
      const Point p{(moving.width - 1.0) * ix / (kGrid - 1), (moving.height - 1.0) * iy / (kGrid - 1)};
      if (!(side(t.base, p) * centre_side > 0)) {
        out.pole = true;
        continue;
      }
      const Jacobian j = jacobian(t, p);
      if (!(j.determinant() * determinant > 0)) out.fold = true;
      const double ratio = quality_math::anisotropy(j);
      out.anisotropy = std::isnan(ratio) ? HUGE_VAL : std::max(out.anisotropy, ratio);
    }
}

// The overlap against the smaller of the two frames, both in FIXED pixels.
double overlap(const QualityInputs& in, double scale) {
  const double growth = scale * scale, fixed = static_cast<double>(in.fixed.width) * in.fixed.height;
  const double moving = static_cast<double>(in.moving.width) * in.moving.height * growth,
               smaller = std::min(fixed, moving);
  return smaller > 0 ? std::min(1.0, in.overlap_px * growth / smaller) : 0;
}

bool no_content(const QualityInputs& in, const QualityOptions& options) {
  return !(std::min(in.contrast_fixed, in.contrast_moving) >= options.min_contrast) ||
         std::min(in.keypoints_fixed, in.keypoints_moving) < options.min_keypoints;
}

bool implausible(const Quality& q, const QualityOptions& options) {
  return q.pole || q.fold || !(q.scale >= options.min_scale && q.scale <= options.max_scale) ||
         !(q.central_anisotropy <= options.max_central_anisotropy) || !(q.anisotropy <= options.max_anisotropy) || !(q.overlap >= options.min_overlap);
}

double confidence(const QualityInputs& in, const Quality& shape, const ConfidenceModel& weight) {
  const double ratio = in.matches > 0 ? static_cast<double>(in.inliers) / in.matches : 0;
  const double logit = weight.bias + weight.ridge_correlation * in.ridge_correlation +
                       weight.log_inliers * std::log1p(static_cast<double>(in.inliers)) + weight.inlier_ratio * ratio +
                       weight.overlap * shape.overlap + weight.inlier_rms_px * in.inlier_rms_px +
                       weight.coverage * in.coverage +
                       weight.log_peak_to_sidelobe * std::log1p(std::max(in.peak_to_sidelobe, 0.0)) +
                       weight.inlier_similarity * in.inlier_similarity +
                       weight.log_attempts * std::log(static_cast<double>(std::max(in.attempts, 1))) +
                       weight.log_anisotropy * std::log(shape.anisotropy);
  return 1 / (1 + std::exp(-logit));
}

}  // namespace

const char* status_name(Status status) {
  constexpr const char* kNames[] = {"ok", "no_content", "too_few_matches", "implausible", "low_agreement"};
  return kNames[static_cast<int>(status)];
}

Quality quality(const QualityInputs& inputs, const QualityOptions& options) {
  Quality out;
  if (inputs.found) {
    shape({inputs.T_fixed_moving, inputs.field}, inputs.moving, out);
    out.overlap = overlap(inputs, out.scale);
  }
  if (no_content(inputs, options)) {
    out.status = Status::no_content;
  } else if (!inputs.found || inputs.inliers < options.min_inliers) {
    out.status = Status::too_few_matches;
  } else if (implausible(out, options)) {
    out.status = Status::implausible;
  } else {
    out.confidence = confidence(inputs, out, options.confidence);
    out.status = out.confidence >= options.min_confidence ? Status::ok : Status::low_agreement;
  }
  return out;
}

}  // namespace fastretina
