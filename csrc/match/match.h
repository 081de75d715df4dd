// Room 6, match: two descriptor sets -> mutual nearest neighbours by cosine similarity.
//
// (i, j) match if j is first under better(similarity, j) among all moving rows for fixed row i, and i is first under
// better(similarity, i) among all fixed rows for moving row j. The score matrix is never stored.
//   f32   products accumulated over k = 0, 1, ... by fmaf: the same bits at every SIMD level. With a bf16 instruction,
//         without a ratio test and from 256 rows of 64 on, a bf16 pass first finds the few pairs that can win
//         (match_screen.h): the same result in 0.5 to 0.7 of the time; 1.9 times it if nearly all rows are copies
//   bf16  rows rounded to bf16 (nearest even; elements below 2^-50 count as zero), then as f32: the same bits with and
//         without a bf16 instruction
//   i8    rows quantised to round(127 x) (ties to even), exact integer sums; score = sum / 127^2
#pragma once

#include "core/context.h"
#include "core/types.h"
#include "core/workspace.h"

namespace fastretina {

struct MatchOptions {
  Precision precision = Precision::f32;  // f32, bf16 or i8; f16 is an InvalidArgument
  float min_similarity = -1.0f;          // matches below are dropped
  // < 1: Lowe's test in both directions: the distance sqrt(2 - 2 s) to the best is below ratio x the distance to the
  // second best. Two equally good answers never pass; a best without a second always does. At 1 there is no test.
  float ratio = 1.0f;
};

// Guided matching: only moving rows whose point, mapped by T_fixed_moving, falls within radius_px of the fixed point
// compete (distance <= radius_px, in double). Mutual among those, by the same order and the same sums. f32.
struct GuidedMatchOptions {
  float radius_px = 12.0f;
  float min_similarity = 0.2f;
};

namespace cpu {
// Rows have norm 1 or 0. out.capacity >= the smaller count; ordered by better(score, fixed index).
void match(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
           const MatchOptions& options, const Matches& out);
void match_guided(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
                  const Keypoints& fixed_points, const Keypoints& moving_points, const Transform& T_fixed_moving,
                  const GuidedMatchOptions& options, const Matches& out);
}  // namespace cpu
namespace cuda {
void match(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
           const MatchOptions& options, const Matches& out);
void match_guided(const Context& context, Workspace& workspace, const Descriptors& fixed, const Descriptors& moving,
                  const Keypoints& fixed_points, const Keypoints& moving_points, const Transform& T_fixed_moving,
                  const GuidedMatchOptions& options, const Matches& out);
}  // namespace cuda

}  // namespace fastretina
