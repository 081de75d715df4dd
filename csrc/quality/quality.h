// Room 10, quality: everything so far -> status, numbers, calibrated confidence.
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
  bool found = false;
  Size fixed, moving;  // content sizes at network scale
  double contrast_fixed = 0, contrast_moving = 0;
  int keypoints_fixed = 0, keypoints_moving = 0;
  int matches = 0, inliers = 0;
  double inlier_rms_px = 0, coverage = 0;
  double ridge_correlation = 0;
  int overlap_px = 0;
};

struct QualityOptions {
  double min_contrast = 0.002;      // mean local deviation of intensities in [0, 1]
  int min_keypoints = 8;
  int min_inliers = 6;
  double min_scale = 1.0 / 6.0, max_scale = 6.0;
  double max_anisotropy = 1.6;      // ratio of singular values of the local map, anywhere in the frame
  double min_overlap = 0.02;        // of the smaller frame
  double min_confidence = 0.5;      // below: low_agreement
};

struct Quality {
  Status status = Status::too_few_matches;
  double confidence = 0;  // probability that the mean error is below 5 px of a 640-px frame
  double scale = 1, rotation_deg = 0, anisotropy = 1;
  bool mirrored = false;
  double overlap = 0;  // share of the MOVING frame
  bool pole = false, fold = false;
};

Quality quality(const QualityInputs& inputs, const QualityOptions& options);

}  // namespace fastretina
