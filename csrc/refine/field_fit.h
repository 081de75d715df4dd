// One fit of refine_field: lattice points of the finest level, sorted by the cells of the control grid, their normal
// equations, and the steps of Levenberg-Marquardt.
#pragma once

#include "core/context.h"
#include "core/workspace.h"
#include "refine/field_kernels.h"
#include "refine/field_math.h"
#include "refine/refine.h"

namespace fastretina::cpu {

using field_math::Fold;

class FieldFit {
 public:
  FieldFit(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
           const Transform& T_fixed_moving, const FieldOptions& options);

  // The points of the overlap on a lattice of `step` px of MOVING, at least kFinestPx. How many.
  int survey(int step);
  // The grid over what survey() found, one ring of control points around it. The control points are the caller's.
  Field grid(double* control) const;
  // The points of one fold. After survey(); the field's geometry is that of grid().
  void choose(const Field& field, Fold fold);

  // Improves `control`, the field's control points. The number of iterations.
  int run(const Field& field, double* control, int max_iterations);
  double correlation(const Field& field);      // of the chosen points under the field
  double log_likelihood(const Field& field);   // the same in nats, up to a constant
  // Root mean square and maximum of the displacement over the chosen points, plane px.
  void reach(const Field& field, double& rms, double& most) const;

 private:
  struct Normal {
    double correlation = 0;     // over all cells
    double log_likelihood = 0;  // nats, up to a constant
    double cost = 0;            // minus log posterior
  };
  struct Band {  // lower band of a symmetric matrix, column by column
    double* data = nullptr;
    int n = 0, width = 0;
    double& at(int row, int column) const { return data[static_cast<std::ptrdiff_t>(column) * width + (row - column)]; }
  };

  Normal measure(const Field& field, bool with_matrix);
  void scatter(const Field& field, double mean);
  double prior(const Field& field, bool with_matrix);
  bool step(const Field& field, double damping);

  const Context& context_;
  const RidgeMap &fixed_, &moving_;
  const Transform& T_;
  const FieldOptions& options_;
  int step_ = 1, surveyed_ = 0, n_ = 0;
  double mm_ = 0;
  float *mx_ = nullptr, *my_ = nullptr;    // surveyed, MOVING plane px
  double *fx_ = nullptr, *fy_ = nullptr;   // and where T puts them, FIXED plane px
  int *cell_ = nullptr, *order_ = nullptr, *first_ = nullptr;
  float *px_ = nullptr, *py_ = nullptr;    // chosen, sorted by cell, MOVING plane px
  field_kernels::FieldPoints points_{};
  field_kernels::CellSums* sums_ = nullptr;
  // Of a cell: sums of the chosen MOVING values (strength, all squares); least squares of m - gain f; 1 / variance.
  double *cell_m_ = nullptr, *cell_mm_ = nullptr, *gain_ = nullptr, *weight_ = nullptr;
  Band normal_, factor_;
  double *gradient_ = nullptr, *delta_ = nullptr, *trial_ = nullptr;
};

}  // namespace fastretina::cpu
