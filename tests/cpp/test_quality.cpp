// Room quality from C++.
#include <cstring>

#include "check.h"
#include "quality/quality.h"

using namespace fastretina;

int main() {
  QualityInputs in;
  in.found = true;
  in.fixed = in.moving = {640, 480};
  in.contrast_fixed = in.contrast_moving = 0.05;
  in.keypoints_fixed = in.keypoints_moving = 500;
  in.matches = 200, in.inliers = 80, in.inlier_rms_px = 1, in.coverage = 0.5;
  in.ridge_correlation = 0.5, in.overlap_px = 200000, in.peak_to_sidelobe = 10, in.inlier_similarity = 0.7;
  CHECK(quality(in, {}).status == Status::ok && quality(in, {}).confidence > 0.9);
  in.ridge_correlation = 0.02, in.inliers = 7, in.peak_to_sidelobe = 0.5;
  CHECK(quality(in, {}).status == Status::low_agreement && quality(in, {}).confidence > 0);
  in.T_fixed_moving.kind = TransformKind::homography;
  in.T_fixed_moving.p[6] = -0.01;
  CHECK(quality(in, {}).pole && quality(in, {}).status == Status::implausible);
  in.moving = {0, 0};
  CHECK(quality(in, {}).status == Status::implausible);
  in.found = false;
  CHECK(quality(in, {}).status == Status::too_few_matches && quality(in, {}).confidence == 0);
  in.contrast_fixed = 0;
  CHECK(std::strcmp(status_name(quality(in, {}).status), "no_content") == 0);
  return 0;
}
