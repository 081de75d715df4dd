// Room 10, quality: everything so far -> status, numbers, calibrated confidence.
//
// The status is the first of these that holds:
//   no_content        contrast of either image below min_contrast, or fewer than min_keypoints key points
//   too_few_matches   no transform was found, or fewer than min_inliers support it
//   implausible       a pole or a fold inside the MOVING frame; local scale at its centre out of
//                     [min_scale, max_scale]; anisotropy there above max_central_anisotropy, or anywhere in it above
//                     max_anisotropy; overlap below min_overlap
//   low_agreement     confidence below min_confidence
//   ok
// The confidence is a logistic model (ConfidenceModel) where the status is ok or low_agreement, and 0 otherwise.
#pragma once

#include "core/types.h"

namespace fastretina {

enum class Status : int {
  ok = 0,
  no_content = 1,       // an image shows nothing: black, constant, no structure
  too_few_matches = 2,  // no transform could be estimated
  implausible = 3,      // pole or fold in the frame, scale or shear that no two retinal cameras differ by
  low_agreement = 4,    // a transform was found, but the vessels do not agree under it
};

const char* status_name(Status status);

// What the rooms before measured. Lengths in network px.
struct QualityInputs {
  Transform T_fixed_moving;
  Field field;  // after it; empty: none
  bool found = false;
  Size fixed, moving;  // content sizes at network scale
  double contrast_fixed = 0, contrast_moving = 0;
  int keypoints_fixed = 0, keypoints_moving = 0;
  int matches = 0, inliers = 0;
  double inlier_rms_px = 0, coverage = 0;
  int attempts = 1;              // made so far, this one included: the more, the likelier is chance
  double inlier_similarity = 0;  // mean cosine of the inliers' descriptors
  double ridge_correlation = 0;
  double peak_to_sidelobe = 0;   // of the ridge correlation
  int overlap_px = 0;
};

// confidence = 1 / (1 + exp(-(bias + sum of weight x feature))), one weight a feature, by its name. Every weight has the
// sign its feature must have. Fitted to registrations of training images and synthetic eyes with known truth, half of
// them of two different eyes (docs/TRAINING.md, Confidence). These are the default network's; the manifest of another
// one has its own.
struct ConfidenceModel {
  double bias = -21.3204;
  double ridge_correlation = 3.76504;
  double log_inliers = 1.46636;  // log(1 + inliers)
  double inlier_ratio = 1.825;  // inliers / matches
  double overlap = 3.2889;
  double inlier_rms_px = 0;
  double coverage = 4.45788;
  double log_peak_to_sidelobe = 3.96168;  // log(1 + peak to sidelobe)
  double inlier_similarity = 9.43734;
  double log_attempts = -0.022887;
  double log_anisotropy = -14.6908;  // log of Quality's
};

struct QualityOptions {
  ConfidenceModel confidence;
  double min_contrast = 0.002;  // mean local deviation of intensities in [0, 1]
  int min_keypoints = 8;
  int min_inliers = 6;
  double min_scale = 1.0 / 6.0, max_scale = 6.0;
  double max_anisotropy = 1.6;  // ratio of singular values of the local map, anywhere in the frame
  double min_overlap = 0.02;    // of the smaller frame
  double min_confidence = 0.5;  // below: low_agreement
  double max_central_anisotropy = 1.25;  // of the local map at the frame's centre: lenses bend the border, not the middle
};

struct Quality {
  Status status = Status::too_few_matches;
  double confidence = 0;    // probability that the mean error is below 5 px of a 640-px frame
  double scale = 1;         // fixed px a moving px at the centre of the MOVING frame: root of the area's growth
  double rotation_deg = 0;  // there, of the nearest similarity (after a left-right mirror if mirrored), in (-180, 180]
  double central_anisotropy = 1;  // ratio of the local map's singular values at the centre of the MOVING frame
  double anisotropy = 1;    // largest ratio of the local map's singular values on a grid over the MOVING frame
  bool mirrored = false;
  double overlap = 0;               // of the smaller frame, in [0, 1]
  bool pole = false, fold = false;  // inside the MOVING frame
};

Quality quality(const QualityInputs& inputs, const QualityOptions& options);

}  // namespace fastretina
