// Ridge maps on the device: as ridges_cpu.cpp, a kernel a step.
#include "core/cuda.h"
#include "core/device.h"
#include "refine/refine.h"
#include "refine/refine_math.h"
#include "refine/ridges.h"

namespace fastretina::cuda {
namespace {

using namespace refine_math;

constexpr int kThreads = 256;
constexpr int kColumns = 64, kRows = 8;  // of a Hessian tile
const dim3 kBlock(32, 8);

dim3 blocks_over(int width, int height) { return {blocks_for(width, 32), blocks_for(height, 8)}; }

struct Planes {
  View<float> at[3];  // strength, c2, s2
};

// One direction of the erosion; what lies beyond the frame is outside.
__global__ void erode_kernel(View<const std::uint8_t> from, View<std::uint8_t> to, int radius, bool down) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= from.width || y >= from.height) return;
  to.row(y)[x] = all_set(from, x, y, !down, down, radius, false) ? 255 : 0;
}

// The three vertical filters of a tile into shared memory, then the horizontal ones.
__global__ void __launch_bounds__(kThreads)
    hessian_kernel(View<const float> plane, View<const std::uint8_t> inside, HessianTaps taps, Planes out) {
  constexpr int kWide = kColumns + 2 * kMaxRadius;
  __shared__ float vg[kRows][kWide], v1[kRows][kWide], v2[kRows][kWide];
  const int n = taps.radius, wide = kColumns + 2 * n, t = static_cast<int>(threadIdx.x);
  const int x0 = static_cast<int>(blockIdx.x) * kColumns, y0 = static_cast<int>(blockIdx.y) * kRows;
  const auto at = [&](int x, int y) { return y < 0 || y >= plane.height ? 0.0f : plane.row(y)[x]; };
  for (int i = t; i < kRows * wide; i += kThreads) {
    const int r = i / wide, k = i % wide, x = x0 + k - n, y = y0 + r;
    float g = 0, d1 = 0, d2 = 0;
    if (x >= 0 && x < plane.width && y < plane.height) {
      const float centre = plane.row(y)[x];
      g = taps.g[0] * centre, d1 = 0 * centre, d2 = taps.d2[0] * centre;
      for (int j = 1; j <= n; ++j) {
        const float above = at(x, y - j), below = at(x, y + j), even = above + below, odd = below - above;
        g = fmaf(taps.g[j], even, g);
        d1 = fmaf(taps.d1[j], odd, d1);
        d2 = fmaf(taps.d2[j], even, d2);
      }
    }
    vg[r][k] = g, v1[r][k] = d1, v2[r][k] = d2;
  }
  __syncthreads();
  for (int i = t; i < kRows * kColumns; i += kThreads) {
    const int r = i / kColumns, k = i % kColumns + n, x = x0 + i % kColumns, y = y0 + r;
    if (x >= plane.width || y >= plane.height) continue;
    float xx = taps.d2[0] * vg[r][k], xy = 0 * vg[r][k], yy = taps.g[0] * v2[r][k];
    for (int j = 1; j <= n; ++j) {
      xx = fmaf(taps.d2[j], vg[r][k - j] + vg[r][k + j], xx);
      xy = fmaf(taps.d1[j], v1[r][k + j] - v1[r][k - j], xy);
      yy = fmaf(taps.g[j], v2[r][k - j] + v2[r][k + j], yy);
    }
    const Ridge found = ridge(xx, xy, yy, inside.row(y)[x] ? 1.0f : 0.0f);
    out.at[0].row(y)[x] = found.strength, out.at[1].row(y)[x] = found.c2, out.at[2].row(y)[x] = found.s2;
  }
}

struct RowSums {
  double *strength, *area;  // a number a row
};

__global__ void row_sums_kernel(View<const float> strength, View<const std::uint8_t> inside, RowSums sums) {
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  const int y = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kRowLanes;
  float s = 0, area = 0;
  if (y < strength.height)
    for (int x = lane; x < strength.width; x += kRowLanes) {
      s += strength.row(y)[x];
      area += inside.row(y)[x] ? 1.0f : 0.0f;
    }
  const double row = row_sum(s), seen = row_sum(area);
  if (lane == 0 && y < strength.height) sums.strength[y] = row, sums.area[y] = seen;
}

__global__ void __launch_bounds__(kThreads) saturate_kernel(Planes planes, RowSums sums, double saturation) {
  const int width = planes.at[0].width, height = planes.at[0].height;
  const double sum = block_total<kThreads>(sums.strength, height), area = block_total<kThreads>(sums.area, height);
  const auto knee = static_cast<float>(saturation * sum / (area > 1 ? area : 1.0) + 1e-9);
  const int y = static_cast<int>(blockIdx.x);
  for (int x = static_cast<int>(threadIdx.x); x < width; x += kThreads) {
    const float gain = saturation_gain(planes.at[0].row(y)[x], knee);
    for (const View<float>& plane : planes.at) plane.row(y)[x] *= gain;
  }
}

__device__ float binomial(float a, float b, float c, float d, float e) {
  return fmaf(0.0625f, a + e, fmaf(0.25f, b + d, 0.375f * c));
}

// Blurred, down first and then across; zeros beyond the frame.
__device__ float blurred(const View<float>& plane, int x, int y) {
  float down[5];
  for (int k = 0; k < 5; ++k) {
    const int u = x + k - 2;
    float v[5];
    for (int j = 0; j < 5; ++j) {
      const int row = y + j - 2;
      v[j] = u < 0 || u >= plane.width || row < 0 || row >= plane.height ? 0.0f : plane.row(row)[u];
    }
    down[k] = binomial(v[0], v[1], v[2], v[3], v[4]);
  }
  return binomial(down[0], down[1], down[2], down[3], down[4]);
}

__global__ void pack_kernel(Planes planes, View<const std::uint8_t> inside, View<RidgePixel> out) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= out.width || y >= out.height) return;
  out.row(y)[x] = pack(blurred(planes.at[0], x, y), blurred(planes.at[1], x, y), blurred(planes.at[2], x, y),
                       inside.empty() ? 0 : inside.row(y)[x]);
}

// Mean of 2 x 2; what is missing at an odd edge counts as 0.
__global__ void halve_kernel(Planes from, Planes to) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= to.at[0].width || y >= to.at[0].height) return;
  for (int k = 0; k < 3; ++k) {
    const View<float>& plane = from.at[k];
    const bool right = 2 * x + 1 < plane.width, below = 2 * y + 1 < plane.height;
    const float* a = plane.row(2 * y) + 2 * x;
    const float* b = below ? plane.row(2 * y + 1) + 2 * x : nullptr;
    const float b0 = below ? b[0] : 0.0f;
    to.at[k].row(y)[x] = right ? 0.25f * ((a[0] + a[1]) + (b0 + (below ? b[1] : 0.0f))) : 0.25f * (a[0] + b0);
  }
}

// The lattice of points, a warp a row of it: how many there are, then where they go.
__device__ int lattice_step(double area, int capacity) {
  int step = kPointStepPx;
  while (static_cast<double>(step) * step * capacity < area) ++step;
  return step;
}

__global__ void __launch_bounds__(kThreads)
    points_kernel(View<const RidgePixel> level, const double* area, int* row_counts, RidgeMap out, bool write) {
  const int step = lattice_step(block_total<kThreads>(area, level.height), out.capacity);
  const int lane = static_cast<int>(threadIdx.x) % 32,
            row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int y = step / 2 + row * step, rows = (level.height - step / 2 + step - 1) / step;
  if (row >= rows) return;
  int at = 0;
  if (write) {
    for (int r = lane; r < row; r += 32) at += row_counts[r];
    at = warp_sum(at);
  }
  for (int x0 = step / 2; x0 < level.width; x0 += 32 * step) {
    const int x = x0 + lane * step;
    const bool inside = x < level.width && level.row(y)[x] >> 24 != 0;
    const unsigned found = __ballot_sync(kAllLanes, inside);
    const int to = at + __popc(found & ((1u << lane) - 1));
    if (write && inside && to < out.capacity) {
      out.points[2 * to] = static_cast<float>(x);
      out.points[2 * to + 1] = static_cast<float>(y);
    }
    at += __popc(found);
  }
  if (lane == 0 && !write) row_counts[row] = at;
  if (lane == 0 && write && row == rows - 1) *out.count = min(at, out.capacity);
}

Planes take_planes(Workspace& workspace, Size size) {
  Planes planes;
  for (auto& plane : planes.at) plane = workspace.take_plane<float>(size.width, size.height);
  return planes;
}

}  // namespace

void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out) {
  check_ridges(plane, mask, options, out);
  fill(context, out.count, 0, sizeof(int));
  if (plane.empty()) return;
  const int width = plane.width, height = plane.height;
  const Workspace::Frame frame(workspace);
  const View<std::uint8_t> across = workspace.take_plane<std::uint8_t>(width, height);
  const View<std::uint8_t> inside = workspace.take_plane<std::uint8_t>(width, height);
  const auto rows = static_cast<std::size_t>(height);
  const RowSums sums{workspace.take<double>(rows), workspace.take<double>(rows)};
  int* row_counts = workspace.take<int>(rows);
  Planes planes = take_planes(workspace, {width, height});

  launch(context, blocks_over(width, height), kBlock, erode_kernel, mask, across, options.rim_px, false);
  launch(context, blocks_over(width, height), kBlock, erode_kernel, across, inside, options.rim_px, true);
  launch(context, {blocks_for(width, kColumns), blocks_for(height, kRows)}, kThreads, hessian_kernel, plane, inside,
         hessian_taps(static_cast<double>(options.sigma_px)), planes);
  launch(context, blocks_for(height, kThreads / kRowLanes), kThreads, row_sums_kernel, planes.at[0], inside, sums);
  launch(context, static_cast<unsigned>(height), kThreads, saturate_kernel, planes, sums,
         static_cast<double>(options.saturation));
  for (int k = kRidgeLevels - 1; k >= 0; --k) {
    const View<RidgePixel> level = out.level[k];
    launch(context, blocks_over(level.width, level.height), kBlock, pack_kernel, planes,
           k == kRidgeLevels - 1 ? View<const std::uint8_t>(inside) : View<const std::uint8_t>(), level);
    if (k == 0) break;
    const Planes half = take_planes(workspace, {out.level[k - 1].width, out.level[k - 1].height});
    launch(context, blocks_over(half.at[0].width, half.at[0].height), kBlock, halve_kernel, planes, half);
    planes = half;
  }
  if (out.capacity == 0) return;
  const View<const RidgePixel> finest = out.level[kRidgeLevels - 1];
  for (const bool write : {false, true})
    launch(context, blocks_for(blocks_for(height, kPointStepPx) + 1, kThreads / 32), kThreads, points_kernel, finest,
           sums.area, row_counts, out, write);
}

}  // namespace fastretina::cuda
