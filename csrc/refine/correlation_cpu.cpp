#include <string>

#include "core/error.h"
#include "refine/refine.h"
#include "refine/refine_check.h"

namespace fastretina {

void check_correlation(int row_step) {
  require(row_step >= 1, "row_step", std::to_string(row_step), "1 or more");
}

namespace cpu {

void ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                       std::span<const Transform> T_fixed_moving, int row_step, RidgeCorrelation* out) {
  using namespace refine_math;
  using namespace refine_kernels;
  constexpr int kRowGrain = 16;
  check_correlation(row_step);
  const Workspace::Frame scratch(workspace);
  const auto count = static_cast<int>(T_fixed_moving.size());
  const auto m = moving.level[kRidgeLevels - 1];
  const int rows = (m.height + row_step - 1) / row_step;
  LatticeJob* jobs = workspace.take<LatticeJob>(T_fixed_moving.size());
  for (int t = 0; t < count; ++t) jobs[t] = lattice_job(fixed, moving, T_fixed_moving[static_cast<std::size_t>(t)]);
  double* row_sums = workspace.take<double>(static_cast<std::size_t>(count * rows * kLatticeSums));
  context.parallel_for(count * rows, kRowGrain, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) {
      const int y = i % rows * row_step;
      LatticeJob row = jobs[i / rows];
      row.moving = m.row(y);
      row.v = lattice_v(moving, y);
      lattice_row(row, row_sums + i * kLatticeSums);
    }
  });
  for (int t = 0; t < count; ++t) {
    const double* own = row_sums + t * rows * kLatticeSums;
    double s[kLatticeSums] = {}, sum_y = 0;
    for (int i = 0; i < rows; ++i) {
      for (int k = 0; k < kLatticeSums; ++k) s[k] += own[i * kLatticeSums + k];
      sum_y += own[i * kLatticeSums + kN] * row_step * i;
    }
    out[t] = correlation(s, sum_y, T_fixed_moving[static_cast<std::size_t>(t)], row_step);
  }
}

}  // namespace cpu
}  // namespace fastretina
