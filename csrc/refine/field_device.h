// One fit of refine_field by the threads of a block: the sums of a cell, the normal equations of all cells, and the
// climb over them, told sums by whoever computes them. Device code, of refine_field_cuda.cu alone.
#pragma once

#include "core/device.h"
#include "refine/field_math.h"
#include "refine/field_tile.h"

namespace fastretina::cuda {

using namespace field_math;
using namespace field_kernels;

constexpr int kFitThreads = 256;

// Of a call, in device memory.
struct FitBuffers {
  float *mx, *my;   // surveyed points, MOVING plane px
  double *fx, *fy;  // and where T puts them, FIXED plane px
  int *cell, *order, *counts, *first;
  FieldPoints points;  // chosen, sorted by cell
  CellSums* sums;      // this and the following: one a cell
  double *cell_m, *cell_mm;
  CellFit* fits;
  double *normal, *factor;  // lower bands, column by column
  double *gradient, *delta, *control, *trial, *zeros;
};

enum class Asks { now, trial, flat, field };  // what is measured: two of a climb, two for an answer

struct FitState {
  Field field;  // its control points are not looked at
  Total total;
  int surveyed, step, iterations, max_iterations, tries, finished;
  double cost, damping, moved, log_likelihood;
  Asks asks;  // of the climb
  bool climbing, stopped;
  double of_flat, of_field;  // answers: log-likelihoods
  FieldRefinement out;
};

__device__ inline const double* asked(const FitBuffers& b, Asks asks) {
  return asks == Asks::trial ? b.trial : asks == Asks::flat ? b.zeros : b.control;
}

// --- the sums of a cell: chains of fmaf in the points' order, the CPU twin's to the bit ------------------------------
struct CellWork {
  Tile tile;
  float control[2][kTaps], weight[kTaps][kTile];
};

__device__ inline void sum_cell(const FieldJob& job, const Field& field, const double* control, int cell, int begin,
                                int end, bool with_matrix, CellWork& w, CellSums& out) {
  const int t = static_cast<int>(threadIdx.x), k = t / kTaps, l = t % kTaps;
  const FieldPoints& p = job.points;
  Tile& tile = w.tile;
  __syncthreads();
  if (t < 2 * kTaps) w.control[t / kTaps][l] = static_cast<float>(control[2 * control_of(field, cell, l) + t / kTaps]);
  float xx = 0, xy = 0, yy = 0, side = 0;
  double value = 0;
  for (int at = begin; at < end; at += kTile) {
    const int n = min(kTile, end - at);
    __syncthreads();
    if (t < n) {
      weigh_point(p.tx[at + t], p.ty[at + t], t, tile);
      sample_point(job, w.control, p.x[at + t], p.y[at + t], p.m[0][at + t], p.m[1][at + t], p.m[2][at + t], t, tile);
      for (int c = 0; c < kTaps; ++c) w.weight[c][t] = tile.wy[c / 4][t] * tile.wx[c % 4][t];
    }
    __syncthreads();
    if (with_matrix) {
      for (int i = 0; i < n; ++i) {
        const float wk = w.weight[k][i], wl = w.weight[l][i];
        xx = fmaf(wk * tile.qxx[i], wl, xx);
        xy = fmaf(wk * tile.qxy[i], wl, xy);
        yy = fmaf(wk * tile.qyy[i], wl, yy);
      }
      if (k < 6)
        for (int i = 0; i < n; ++i) side = fmaf(tile.with[k][i], w.weight[l][i], side);
    }
    const float* values = t == 0 ? tile.ff : t == 1 ? tile.fm : tile.fs;
    if (t < 3)
      for (int i = 0; i < n; ++i) value += static_cast<double>(values[i]);
  }
  if (with_matrix) {
    out.xx[k][l] = xx, out.xy[k][l] = xy, out.yy[k][l] = yy;
    float* const with[6] = {out.gm[0], out.gm[1], out.gf[0], out.gf[1], out.gs[0], out.gs[1]};
    if (k < 6) with[k][l] = side;
  }
  if (t < 3) (t == 0 ? out.ff : t == 1 ? out.fm : out.fs) = value;
}

// --- the prior: second differences of neighbouring control points, and displacements themselves, are small -------
// Its matrix, the same for both axes: the entry of control point (row, column) with the one (dr, dc) from it.
__device__ inline double prior_entry(const Field& f, const FieldOptions& o, int row, int column, int dr, int dc) {
  const double bend = 1 / (o.bend_px * o.bend_px), shift = 1 / (o.shift_px * o.shift_px);
  const auto along = [](int at, int other, int count) {  // of all stencils (1, -2, 1)
    double sum = 0;
    for (int first = max(at, other) - 2; first <= min(at, other); ++first)
      if (first >= 0 && first + 2 < count) sum += (at - first == 1 ? -2.0 : 1.0) * (other - first == 1 ? -2.0 : 1.0);
    return sum;
  };
  double sum = dr == 0 && dc == 0 ? shift : 0.0;
  if (dr == 0) sum += bend * along(column, column + dc, f.columns);
  if (dc == 0) sum += bend * along(row, row + dr, f.rows);
  if (abs(dr) > 1 || abs(dc) > 1) return sum;
  int crossed = 0;  // stencils (1, -1; -1, 1) with both
  for (int r = max(row, row + dr) - 1; r <= min(row, row + dr); ++r)
    for (int c = max(column, column + dc) - 1; c <= min(column, column + dc); ++c)
      crossed += r >= 0 && c >= 0 && r + 1 < f.rows && c + 1 < f.columns;
  return sum + 2 * bend * ((dr + dc) % 2 == 0 ? crossed : -crossed);
}

// The prior's matrix times the control points, at one of them.
__device__ inline void prior_force(const Field& f, const FieldOptions& o, const double* control, int at, double& x,
                                   double& y) {
  const int row = at / f.columns, column = at % f.columns;
  x = y = 0;
  for (int dr = -2; dr <= 2; ++dr)
    for (int dc = -2; dc <= 2; ++dc) {
      if (row + dr < 0 || row + dr >= f.rows || column + dc < 0 || column + dc >= f.columns) continue;
      const double entry = prior_entry(f, o, row, column, dr, dc);
      const double* other = control + 2 * (at + dr * f.columns + dc);
      x += entry * other[0], y += entry * other[1];
    }
}

__device__ inline double prior_energy(const Field& f, const FieldOptions& o, const double* control) {
  double sum = 0;
  for (int at = static_cast<int>(threadIdx.x); at < f.columns * f.rows; at += kFitThreads) {
    double x, y;
    prior_force(f, o, control, at, x, y);
    sum += 0.5 * (x * control[2 * at] + y * control[2 * at + 1]);
  }
  return block_sum<kFitThreads>(sum);
}

// --- normal equations -------------------------------------------------------------------------------------------
__device__ inline int band_of(const Field& f) { return 6 * f.columns + 8; }

// A thread an element: from the cells that know both control points, in their order, and the prior.
__device__ inline void build_normal(const FitState& s, const FitBuffers& b, const FieldOptions& o) {
  const Field& f = s.field;
  const int n = 2 * f.columns * f.rows, width = band_of(f), across = cells_across(f), down = cells_down(f);
  for (int e = static_cast<int>(threadIdx.x); e < n * width; e += kFitThreads) {
    const int j = e / width, i = j + e % width, p = i / 2, q = j / 2;
    double sum = 0;
    if (i < n) {
      const int pr = p / f.columns, pc = p % f.columns, qr = q / f.columns, qc = q % f.columns;
      for (int r = max(max(pr, qr) - 3, 0); r <= min(min(pr, qr), down - 1); ++r)
        for (int c = max(max(pc, qc) - 3, 0); c <= min(min(pc, qc), across - 1); ++c) {
          const int cell = r * across + c, k = 4 * (pr - r) + pc - c, l = 4 * (qr - r) + qc - c;
          if (b.first[cell] == b.first[cell + 1]) continue;
          const CellSums& sums = b.sums[cell];
          const double curvature = b.fits[cell].weight * b.fits[cell].gain * b.fits[cell].gain;
          sum += curvature * static_cast<double>(i % 2 != j % 2 ? sums.xy[k][l]
                                                 : i % 2        ? sums.yy[k][l]
                                                                : sums.xx[k][l]);
        }
      if (i % 2 == j % 2 && abs(pr - qr) <= 2 && abs(pc - qc) <= 2) sum += prior_entry(f, o, qr, qc, pr - qr, pc - qc);
    }
    b.normal[e] = sum;
  }
  const double mean = s.total.mean();
  for (int at = static_cast<int>(threadIdx.x); at < f.columns * f.rows; at += kFitThreads) {
    const int row = at / f.columns, column = at % f.columns;
    double sum[2] = {}, force[2];
    for (int r = max(row - 3, 0); r <= min(row, down - 1); ++r)
      for (int c = max(column - 3, 0); c <= min(column, across - 1); ++c) {
        const int cell = r * across + c, k = 4 * (row - r) + column - c;
        if (b.first[cell] == b.first[cell + 1]) continue;
        const CellSums& sums = b.sums[cell];
        const double gain = b.fits[cell].gain, slope = b.fits[cell].weight * gain;
        for (int axis = 0; axis < 2; ++axis)
          sum[axis] += slope * (static_cast<double>(sums.gm[axis][k]) -
                                gain * (static_cast<double>(sums.gf[axis][k]) -
                                        mean * static_cast<double>(sums.gs[axis][k])));
      }
    prior_force(f, o, b.control, at, force[0], force[1]);
    for (int axis = 0; axis < 2; ++axis) b.gradient[2 * at + axis] = sum[axis] - force[axis];
  }
  __syncthreads();
}

// delta = (normal + damping x its diagonal)^-1 gradient, by Cholesky. false: not positive definite.
__device__ inline bool solve_step(const FitState& s, const FitBuffers& b) {
  const int t = static_cast<int>(threadIdx.x), n = 2 * s.field.columns * s.field.rows, width = band_of(s.field);
  for (int e = t; e < n * width; e += kFitThreads) b.factor[e] = b.normal[e] * (e % width == 0 ? 1 + s.damping : 1.0);
  for (int i = t; i < n; i += kFitThreads) b.delta[i] = b.gradient[i];
  __syncthreads();
  for (int j = 0; j < n; ++j) {
    double* column = b.factor + static_cast<std::ptrdiff_t>(j) * width;
    const int last = min(width - 1, n - 1 - j);
    const double pivot = column[0];
    if (!(pivot > 0)) return false;
    const double root = std::sqrt(pivot), inverse = 1 / root;
    __syncthreads();
    for (int k = t; k <= last; k += kFitThreads) column[k] = k == 0 ? root : column[k] * inverse;
    if (t == 0) b.delta[j] *= inverse;
    __syncthreads();
    for (int k = 1 + t / 16; k <= last; k += kFitThreads / 16) {  // sixteen threads a column
      const double scale = column[k];
      double* other = column + static_cast<std::ptrdiff_t>(k) * width;
      for (int i = k + t % 16; i <= last; i += 16) other[i - k] -= scale * column[i];
      if (t % 16 == 0) b.delta[j + k] -= scale * b.delta[j];
    }
    __syncthreads();
  }
  if (t < 32)
    for (int j = n - 1; j >= 0; --j) {
      const double* column = b.factor + static_cast<std::ptrdiff_t>(j) * width;
      double sum = 0;
      for (int k = 1 + t; k <= min(width - 1, n - 1 - j); k += 32) sum += column[k] * b.delta[j + k];
      sum = warp_sum(sum);
      if (t == 0) b.delta[j] = (b.delta[j] - sum) / column[0];
      __syncwarp();
    }
  __syncthreads();
  return true;
}

// --- the climb, and answers: told that the sums of all cells are there. By a block -------------------------------
__device__ inline void propose(FitState& s, const FitBuffers& b) {
  const int t = static_cast<int>(threadIdx.x), n = 2 * s.field.columns * s.field.rows;
  const bool solved = solve_step(s, b);
  double most = 0;
  for (int i = t; i < n && solved; i += kFitThreads) most = fmax(most, std::abs(b.delta[i]));
  __shared__ double largest[kFitThreads / 32];
  for (int mask = 16; mask > 0; mask /= 2) most = fmax(most, __shfl_xor_sync(kAllLanes, most, mask));
  if (t % 32 == 0) largest[t / 32] = most;
  __syncthreads();
  for (int warp = 0; warp < kFitThreads / 32; ++warp) most = fmax(most, largest[warp]);
  const double shrink = shrink_of(most);
  for (int i = t; i < n && solved; i += kFitThreads) b.trial[i] = b.control[i] + shrink * b.delta[i];
  if (t == 0) s.moved = most, s.asks = Asks::trial, s.climbing = solved;
  __syncthreads();
}

__device__ inline void tell(FitState& s, const FitBuffers& b, const FieldOptions& o, Asks asks) {
  const int t = static_cast<int>(threadIdx.x), cells = cells_across(s.field) * cells_down(s.field);
  if (t < 3) {
    double sum = 0;
    for (int cell = 0; cell < cells; ++cell)
      if (b.first[cell] != b.first[cell + 1]) {
        const CellSums& c = b.sums[cell];
        sum += t == 0 ? c.ff : t == 1 ? c.fm : c.fs;
      }
    (t == 0 ? s.total.ff : t == 1 ? s.total.fm : s.total.fs) = sum;
  }
  __syncthreads();
  for (int cell = t; cell < cells; cell += kFitThreads) {
    const int count = b.first[cell + 1] - b.first[cell];
    b.fits[cell] = {};
    if (count > 0)
      b.fits[cell] =
          fit_cell(b.sums[cell], count, b.cell_m[cell], b.cell_mm[cell], s.total, points_worth(s.step) * o.samples_per_point);
  }
  const double energy = prior_energy(s.field, o, asked(b, asks));
  __syncthreads();
  if (t == 0) {
    double sum = 0;
    for (int cell = 0; cell < cells; ++cell) sum += b.fits[cell].log_likelihood;
    s.log_likelihood = sum;
    if (asks == Asks::flat) s.of_flat = sum, s.out.score_before = s.total.correlation();
    if (asks == Asks::field) s.of_field = sum, s.out.score_after = s.total.correlation();
  }
  __syncthreads();
  if (asks == Asks::flat || asks == Asks::field) return;
  const double cost = energy - s.log_likelihood;
  bool proposes = true;
  if (asks == Asks::now) {
    build_normal(s, b, o);
    if (t == 0) s.cost = cost, s.tries = 0, s.climbing = s.iterations < s.max_iterations;
    __syncthreads();
    proposes = s.climbing;
    __syncthreads();
    if (t == 0 && proposes) ++s.iterations, ++s.out.iterations;
  } else {
    const bool better = cost < s.cost, still = s.moved < o.epsilon_px;
    if (better)
      for (int i = t; i < 2 * s.field.columns * s.field.rows; i += kFitThreads) b.control[i] = b.trial[i];
    proposes = !better && !still && s.tries + 1 < kTrials;
    __syncthreads();
    if (t == 0) {
      s.damping = next_damping(s.damping, better);
      ++s.tries;
      s.asks = Asks::now;
      s.climbing = proposes || (better && !still);
    }
  }
  __syncthreads();
  if (proposes) propose(s, b);
}

}  // namespace fastretina::cuda
