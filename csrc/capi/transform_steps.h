// A transform as the C ABI holds it: maps in a row, so that every kind has an inverse. The value behind
// python/fastretina/transform.py, with the same checks and the same JSON.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "capi/fastretina.h"
#include "core/field.h"

namespace fastretina {
struct Candidate;
}

namespace fastretina::capi {

using Rectangle = std::array<double, 4>;  // x0, y0, x1, y1, px: where the corner control points lie

struct Step {
  Transform map;                // unless it is dense
  std::vector<double> control;  // of a dense map: rows x columns x 2 displacements; else empty
  int rows = 0, columns = 0;
  Rectangle rectangle{};
  bool inverted = false;  // quadratic and dense only: they have no closed inverse

  bool dense() const { return !control.empty(); }
  Field field() const;
};

// Fixed capacity, and control points stay with their place: a session writes one without allocating.
class TransformSteps {
 public:
  static constexpr std::size_t kCapacity = 16;

  std::span<const Step> list() const { return {steps_.data(), count_}; }  // outermost first
  bool empty() const { return count_ == 0; }
  void clear() { count_ = 0; }
  Step& add();                        // its members are to be set; throws InvalidArgument where there is no room
  void append(const Transform& map);  // checked
  void append(const Step& step) { add() = step; }

 private:
  std::array<Step, kCapacity> steps_;
  std::size_t count_ = 0;
};

// The candidate's transform; empty if there is none.
void set_steps(const Candidate& candidate, TransformSteps& steps);

fastretina_kind kind_of(const TransformSteps& steps);
const char* kind_name(fastretina_kind kind);
fastretina_kind kind_of(const Step& step);  // as if it were not inverted

// A point of MOVING in FIXED; NaN where an inverted step has no solution.
Point apply(const TransformSteps& steps, Point moving);

TransformSteps inverse(const TransformSteps& steps);  // throws InvalidArgument for a singular matrix

// What the room `warp` takes: one map, a field, or a field after a map. Throws InvalidArgument for everything else.
// Points into `steps`.
Deformation deformation(const TransformSteps& steps);

// As Python keeps them: no negative zeros, a homography's last entry 1 wherever it is not negligible.
// Throws InvalidArgument for what is not finite, or a matrix that is not of its kind.
Transform checked(const Transform& map);

// The same of a dense step, which must not fold.
void check_dense(Step& step);

}  // namespace fastretina::capi
