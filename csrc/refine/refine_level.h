// One level of refine: the points of the overlap, their normal equations, and the steps of Levenberg-Marquardt.
#pragma once

#include "core/context.h"
#include "core/workspace.h"
#include "refine/refine.h"
#include "refine/refine_kernels.h"
#include "refine/refine_model.h"

namespace fastretina::cpu {

struct Normal {
  double gg[refine_math::kMaxParams][refine_math::kMaxParams];  // G'G
  double gm[refine_math::kMaxParams], gs[refine_math::kMaxParams], gf[refine_math::kMaxParams];
  double ff = 0, fm = 0, fs = 0;
  double correlation = 0;  // of f and m, f's strength centred
  double cost = 0;         // minus log posterior
};

struct Box {
  double u0 = 0, u1 = 0, v0 = 0, v1 = 0;
};

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
  Normal measure(const refine_math::Model& model) const;
  bool step(const Normal& now, const refine_math::Model& model, double damping,
            double delta[refine_math::kMaxParams]) const;
  double precision(int j) const;

  const Context& context_;
  const RefineOptions& options_;
  const refine_math::Model& prior_;
  int scale_;
  View<const RidgePixel> fixed_, moving_;
  int parameters_;
  double* sums_ = nullptr;
  float *x_ = nullptr, *y_ = nullptr;
  refine_kernels::PointSet points_;
  int n_ = 0;
  double independent_ = 0;
  double mm_ = 0;
  Box box_;
};

}  // namespace fastretina::cpu
