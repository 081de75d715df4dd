// What one rung of the ladder found, judged on the host from what the rooms measured, whichever side they ran on.
#pragma once

#include <cstdint>
#include <vector>

#include "image_features.h"
#include "quality/quality.h"

namespace fastretina {

// Points and transforms are in the callers' pixels.
struct Candidate {
  Quality quality;
  QualityInputs measured;   // in network px
  Transform T_fixed_moving;
  Field grid;                   // of the field of FIXED after T_fixed_moving; empty: none
  std::vector<double> control;  // its control points
  bool found = false;
  int rung = 0;             // 0: both images as they are
  Pose fixed_pose, moving_pose;
  std::vector<float> fixed_xy, moving_xy, score;  // matches, 2 and 2 and 1 numbers each
  std::vector<std::uint8_t> inlier;

  Field field() const {
    Field f = grid;
    f.control = control.data();
    return f;
  }
};

// The matches of a rung in network px, and which of them the estimate explains. Host memory.
struct RungMatches {
  PointPairs pairs;
  const float* score = nullptr;
  const std::uint8_t* inlier = nullptr;
};

// What aligning the vessels once more, at a finer scale, came to.
struct Polished {
  Transform T_input;    // the callers' px
  Transform T_network;  // the same at the rung's scale, where it is compared
  RidgeCorrelation agreement;
};

// T_network_input of both images, which takes the callers' px to network px.
struct Frames {
  Transform fixed, moving;

  // Network px on both sides -> the callers' px on both sides.
  FR_HD bool to_input(const Transform& T_network, Transform& T_input) const {
    Transform back, half;
    return invert(fixed, back) && compose(T_network, moving, half) && compose(back, half, T_input);
  }
  // The callers' px on both sides -> network px on both sides.
  FR_HD bool to_network(const Transform& T_input, Transform& T_network) const {
    Transform back, half;
    return invert(moving, back) && compose(T_input, back, half) && compose(fixed, half, T_network);
  }
};

// A local field that was fitted at a finer scale: what it is of, in that scale's px.
struct Deformed {
  Frames frames;
  Size fixed, moving;     // content
  Deformation T_network;  // the transform, and the field after it
};

// Judges out.measured, and fills in what follows from it and the matches.
void judge(const RungMatches& matches, const Frames& frames, const QualityOptions& options, Candidate& out);

// Px of FIXED to a px of MOVING, in the frames in which the rung saw them, amid what the estimate explains. Between a
// quarter and four; 1 where it explains nothing.
double magnification(const Candidate& best, const Frames& seen);

// Takes the polished transform, unless the vessels agree clearly less under it.
void take_polished(const Polished& polished, const QualityOptions& options, Candidate& best);

// Takes the field, unless there is none or no two cameras see an eye like that. Its control points may lie in
// best.control, which has room for them. The confidence stays that of the transform.
void take_field(const Deformed& deformed, const QualityOptions& options, Candidate& best);

}  // namespace fastretina
