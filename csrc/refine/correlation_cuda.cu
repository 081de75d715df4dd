// ridge_correlation() on the device: half a warp a row of the lattice, then a warp a transform.
#include "core/cuda.h"
#include "core/device.h"
#include "refine/refine_check.h"
#include "refine/refine_tile.h"

namespace fastretina::cuda {
namespace {

using namespace refine_math;
using namespace refine_kernels;

constexpr int kThreads = 256;

// A lane adds up every sixteenth point of its row, as the CPU twin's lanes do. Grid: rows, transforms.
__global__ void __launch_bounds__(kThreads)
    lattice_kernel(RidgeMap fixed, RidgeMap moving, const Transform* transforms, int row_step, double* sums) {
  __shared__ LatticeJob shared_job;
  if (threadIdx.x == 0) shared_job = lattice_job(fixed, moving, transforms[blockIdx.y]);
  __syncthreads();
  LatticeJob job = shared_job;
  const View<const RidgePixel> m = moving.level[kRidgeLevels - 1];
  const int lane = static_cast<int>(threadIdx.x) % kLanes,
            row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kLanes, y = row_step * row,
            rows = (m.height + row_step - 1) / row_step;
  float s[kLatticeSums] = {};
  if (row < rows) {
    job.v = lattice_v(moving, y);
    constexpr int kSteps = kTile / kLanes;
    for (int x0 = lane; x0 < (job.moving_width + 1) / 2; x0 += kTile) {
      float fs[kSteps], ms[kSteps];  // these squares follow those of the cosines, tile by tile
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int x = x0 + k * kLanes;
        fs[k] = ms[k] = 0;
        if (x >= (job.moving_width + 1) / 2) continue;
        const auto column = static_cast<float>(x);
        const LatticePoint p = lattice_point(job, m.row(y)[2 * x], column);
        s[kN] += p.on, s[kX] = fmaf(p.on, column, s[kX]), s[kF] += p.f, s[kM] += p.m;
        s[kFF] = fmaf(p.f, p.f, s[kFF]), s[kMM] = fmaf(p.m, p.m, s[kMM]), s[kFM] = fmaf(p.f, p.m, s[kFM]);
        s[kCC] = fmaf(p.fc, p.mc, s[kCC]), s[kSS] = fmaf(p.fs, p.ms, s[kSS]);
        s[kCS] = fmaf(p.fc, p.ms, s[kCS]), s[kSC] = fmaf(p.fs, p.mc, s[kSC]);
        s[kVF] = fmaf(p.fc, p.fc, s[kVF]), s[kVM] = fmaf(p.mc, p.mc, s[kVM]);
        fs[k] = p.fs, ms[k] = p.ms;
      }
#pragma unroll
      for (int k = 0; k < kSteps; ++k) s[kVF] = fmaf(fs[k], fs[k], s[kVF]), s[kVM] = fmaf(ms[k], ms[k], s[kVM]);
    }
  }
  for (int k = 0; k < kLatticeSums; ++k) {
    double sum = 0;
    for (int l = 0; l < kLanes; ++l)
      sum += static_cast<double>(__shfl_sync(kAllLanes, s[k], (static_cast<int>(threadIdx.x) & 16) + l));
    if (lane == 0 && row < rows) sums[(static_cast<int>(blockIdx.y) * rows + row) * kLatticeSums + k] = sum;
  }
}

// A warp a transform: a lane adds up one of the sums, row by row.
__global__ void total_kernel(const Transform* transforms, int rows, int row_step, const double* row_sums,
                             RidgeCorrelation* out) {
  static_assert(kLatticeSums < 32);
  __shared__ double total[kLatticeSums + 1];  // the last one: of y
  const int k = static_cast<int>(threadIdx.x), t = static_cast<int>(blockIdx.x);
  const double* own = row_sums + t * rows * kLatticeSums;
  if (k <= kLatticeSums) {
    double sum = 0;
#pragma unroll 8
    for (int i = 0; i < rows; ++i)
      sum += k < kLatticeSums ? own[i * kLatticeSums + k] : own[i * kLatticeSums + kN] * row_step * i;
    total[k] = sum;
  }
  __syncwarp();
  if (k == 0) out[t] = correlation(total, total[kLatticeSums], transforms[t], row_step);
}

}  // namespace

void ridge_correlation(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                       std::span<const Transform> T_fixed_moving, int row_step, RidgeCorrelation* out) {
  check_correlation(row_step);
  const Workspace::Frame scratch(workspace);
  const auto count = static_cast<unsigned>(T_fixed_moving.size());
  const int rows = (moving.level[kRidgeLevels - 1].height + row_step - 1) / row_step;
  double* row_sums = workspace.take<double>(count * static_cast<std::size_t>(rows * kLatticeSums));
  launch(context, dim3(blocks_for(rows, kThreads / kLanes), count), kThreads, lattice_kernel, fixed, moving,
         T_fixed_moving.data(), row_step, row_sums);
  launch(context, count, 32, total_kernel, T_fixed_moving.data(), rows, row_step, row_sums, out);
}

}  // namespace fastretina::cuda
