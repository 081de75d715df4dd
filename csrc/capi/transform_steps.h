// A transform as the C ABI holds it: maps in a row, so that every kind has an inverse. The value behind
// python/fastretina/transform.py, with the same checks and the same JSON.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "capi/fastretina.h"
#include "core/transform.h"

namespace fastretina {
struct Candidate;
}

namespace fastretina::capi {

struct Step {
  Transform map;
  bool inverted = false;  // quadratics only: they have no closed inverse
};

// Fixed capacity: a session writes one without allocating.
class TransformSteps {
 public:
  static constexpr std::size_t kCapacity = 16;

  std::span<const Step> list() const { return {steps_.data(), count_}; }  // outermost first
  bool empty() const { return count_ == 0; }
  void append(const Step& step);  // throws InvalidArgument where there is no room

 private:
  std::array<Step, kCapacity> steps_;
  std::size_t count_ = 0;
};

// The candidate's transform; empty if there is none.
TransformSteps steps_of(const Candidate& candidate);

fastretina_kind kind_of(const TransformSteps& steps);
const char* kind_name(TransformKind kind);

// A point of MOVING in FIXED; NaN where an inverted quadratic has no solution.
Point apply(const TransformSteps& steps, Point moving);

TransformSteps inverse(const TransformSteps& steps);  // throws InvalidArgument for a singular matrix

// The one map that the steps are. Throws InvalidArgument where they are none, or several.
Transform single_map(const TransformSteps& steps);

// As Python keeps them: no negative zeros, a homography's last entry 1 wherever it is not negligible.
// Throws InvalidArgument for what is not finite, or a matrix that is not of its kind.
Transform checked(const Transform& map);

}  // namespace fastretina::capi
