// One level of refine on the CPU: the points of the overlap, and the climb over their normal equations.
#pragma once

#include "core/context.h"
#include "core/workspace.h"
#include "refine/refine.h"
#include "refine/refine_climb.h"

namespace fastretina::cpu {

class Level {
 public:
  Level(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving, int level,
        const RefineOptions& options, const refine_math::Model& prior);

  // The points whose place under `model` shows FIXED. How many.
  int choose(const RidgeMap& fixed, const RidgeMap& moving, const refine_math::Model& model);
  // Improves the model. The number of iterations.
  int run(refine_math::Model& model);

  double reach(const refine_math::Model& a, const refine_math::Model& b) const;  // of the overlap's corners, plane px
  double shift(const refine_math::Model& a, const refine_math::Model& b) const;  // of its points, root mean square

 private:
  const Context& context_;
  int scale_;
  View<const RidgePixel> fixed_, moving_;
  double* sums_ = nullptr;
  float *x_ = nullptr, *y_ = nullptr;
  refine_kernels::PointSet points_;
  int n_ = 0;
  refine_math::Climb climb_;
};

}  // namespace fastretina::cpu
