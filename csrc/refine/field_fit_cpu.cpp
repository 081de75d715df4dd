// Levenberg-Marquardt on the posterior of the control points given the correlation of the ridges (field_math.h).
#include "refine/field_fit.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "refine/field_math.h"
#include "refine/refine_kernels.h"

namespace fastretina::cpu {
namespace {

using namespace field_kernels;
using namespace field_math;
using namespace refine_math;

constexpr int kGrain = 4;  // cells a chunk of parallel_for

}  // namespace

FieldFit::FieldFit(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                   const Transform& T_fixed_moving, const FieldOptions& options)
    : context_(context), fixed_(fixed), moving_(moving), T_(T_fixed_moving), options_(options) {
  const auto n = static_cast<std::size_t>(most_points(moving) + kFieldPad);
  for (float** a : {&mx_, &my_, &px_, &py_, &points_.x, &points_.y, &points_.tx, &points_.ty, &points_.m[0],
                    &points_.m[1], &points_.m[2]})
    *a = workspace.take<float>(n);
  for (double** a : {&fx_, &fy_}) *a = workspace.take<double>(n);
  for (int** a : {&cell_, &order_}) *a = workspace.take<int>(n);
  const int side = options.cells + 4, unknowns = field_capacity(options);
  first_ = workspace.take<int>(static_cast<std::size_t>(side * side + 1));
  sums_ = workspace.take<CellSums>(static_cast<std::size_t>(side * side));
  for (double** a : {&cell_m_, &cell_mm_, &gain_, &weight_}) *a = workspace.take<double>(static_cast<std::size_t>(side * side));
  const int width = 6 * side + 8;
  for (Band* band : {&normal_, &factor_}) band->data = workspace.take<double>(static_cast<std::size_t>(unknowns * width));
  for (double** a : {&gradient_, &delta_, &trial_}) *a = workspace.take<double>(static_cast<std::size_t>(unknowns));
}

int FieldFit::survey(int step) {
  step_ = step;
  const View<const RidgePixel> own = moving_.level[kRidgeLevels - 1];
  surveyed_ = 0;
  for (int y = step / 2; y < own.height; y += step)
    for (int x = step / 2; x < own.width; x += step) {
      Point at;
      if (!overlaps(fixed_, moving_, T_, x, y, at)) continue;
      mx_[surveyed_] = static_cast<float>(x), my_[surveyed_] = static_cast<float>(y);
      fx_[surveyed_] = at.x, fy_[surveyed_] = at.y;
      ++surveyed_;
    }
  return surveyed_;
}

Field FieldFit::grid(double* control) const {
  const auto [left, right] = std::minmax_element(fx_, fx_ + surveyed_);
  const auto [top, bottom] = std::minmax_element(fy_, fy_ + surveyed_);
  return grid_over({*left, *top}, {*right, *bottom}, options_.cells, control);
}

void FieldFit::choose(const Field& field, Fold fold) {
  const int cells = cells_across(field) * cells_down(field);
  std::fill_n(first_, cells + 1, 0);
  double cx = 0, cy = 0;
  for (int i = 0; i < surveyed_; ++i) {
    cell_[i] = belongs(field, fx_[i], fy_[i], fold) ? place_of(field, fx_[i], fy_[i]).cell : -1;
    if (cell_[i] < 0) continue;
    ++first_[cell_[i] + 1];
    cx += static_cast<double>(mx_[i]), cy += static_cast<double>(my_[i]);
  }
  for (int c = 0; c < cells; ++c) first_[c + 1] += first_[c];
  n_ = first_[cells];
  for (int i = 0; i < surveyed_; ++i)
    if (cell_[i] >= 0) order_[first_[cell_[i]]++] = i;
  for (int c = cells; c > 0; --c) first_[c] = first_[c - 1];
  first_[0] = 0;
  mm_ = 0;
  if (n_ == 0) return;

  for (int k = 0; k < n_; ++k) {
    const int i = order_[k];
    const Place place = place_of(field, fx_[i], fy_[i]);
    points_.tx[k] = static_cast<float>(place.tx), points_.ty[k] = static_cast<float>(place.ty);
    points_.x[k] = static_cast<float>(fx_[i]), points_.y[k] = static_cast<float>(fy_[i]);
    px_[k] = mx_[i], py_[k] = my_[i];
  }
  const View<const RidgePixel> m = moving_.level[kRidgeLevels - 1];
  refine_kernels::PointSet values{nullptr, nullptr, {points_.m[0], points_.m[1], points_.m[2]}};
  refine_kernels::gather({m.data, m.stride, m.width, m.height, 1}, px_, py_, n_, values);
  const Turn turn = turn_at(T_, {cx / n_, cy / n_});
  double mean = 0;
  for (int i = 0; i < n_; ++i) mean += static_cast<double>(points_.m[0][i]);
  mean /= n_;
  for (double* a : {cell_m_, cell_mm_}) std::fill_n(a, cells, 0.0);
  for (int i = 0; i < n_; ++i) {
    const double c = static_cast<double>(points_.m[1][i]), s = static_cast<double>(points_.m[2][i]);
    const double m0 = static_cast<double>(points_.m[0][i]) - mean;
    const double m1 = turn.m00 * c + turn.m01 * s, m2 = turn.m10 * c + turn.m11 * s;
    const double mm = m0 * m0 + m1 * m1 + m2 * m2;
    mm_ += mm, cell_mm_[cell_[order_[i]]] += mm, cell_m_[cell_[order_[i]]] += m0;
    points_.m[0][i] = static_cast<float>(m0), points_.m[1][i] = static_cast<float>(m1);
    points_.m[2][i] = static_cast<float>(m2);
  }
}

// Second differences of neighbouring control points, and the displacements themselves, are small.
double FieldFit::prior(const Field& field, bool with_matrix) {
  const double bend = 1 / (options_.bend_px * options_.bend_px), shift = 1 / (options_.shift_px * options_.shift_px);
  double energy = 0;
  const auto add = [&](double precision, std::initializer_list<std::pair<int, double>> stencil) {
    for (int axis = 0; axis < 2; ++axis) {
      double value = 0;
      for (const auto& [i, c] : stencil) value += c * field.control[2 * i + axis];
      energy += 0.5 * precision * value * value;
      if (!with_matrix) continue;
      for (const auto& [i, c] : stencil) {
        gradient_[2 * i + axis] -= precision * c * value;
        for (const auto& [j, d] : stencil)
          if (j <= i) normal_.at(2 * i + axis, 2 * j + axis) += precision * c * d;
      }
    }
  };
  const int columns = field.columns;
  for (int r = 0; r < field.rows; ++r)
    for (int c = 0; c < columns; ++c) {
      const int at = r * columns + c;
      add(shift, {{at, 1}});
      if (c + 2 < columns) add(bend, {{at, 1}, {at + 1, -2}, {at + 2, 1}});
      if (r + 2 < field.rows) add(bend, {{at, 1}, {at + columns, -2}, {at + 2 * columns, 1}});
      if (c + 1 < columns && r + 1 < field.rows)
        add(2 * bend, {{at, 1}, {at + 1, -1}, {at + columns, -1}, {at + columns + 1, 1}});
    }
  return energy;
}

// The likelihood's part of matrix and gradient, from the sums of the cells.
void FieldFit::scatter(const Field& field, double mean) {
  for (int cell = 0; cell < cells_across(field) * cells_down(field); ++cell) {
    if (first_[cell] == first_[cell + 1]) continue;
    const CellSums& s = sums_[cell];
    const double gain = gain_[cell], slope = weight_[cell] * gain, curvature = slope * gain;
    int at[kTaps];
    for (int k = 0; k < kTaps; ++k) at[k] = control_of(field, cell, k);
    for (int k = 0; k < kTaps; ++k) {
      for (int axis = 0; axis < 2; ++axis)
        gradient_[2 * at[k] + axis] +=
            slope * (static_cast<double>(s.gm[axis][k]) -
                     gain * (static_cast<double>(s.gf[axis][k]) - mean * static_cast<double>(s.gs[axis][k])));
      for (int l = 0; l <= k; ++l) {
        const double xy = curvature * static_cast<double>(s.xy[k][l]);
        normal_.at(2 * at[k], 2 * at[l]) += curvature * static_cast<double>(s.xx[k][l]);
        normal_.at(2 * at[k] + 1, 2 * at[l] + 1) += curvature * static_cast<double>(s.yy[k][l]);
        normal_.at(2 * at[k] + 1, 2 * at[l]) += xy;
        if (l < k) normal_.at(2 * at[k], 2 * at[l] + 1) += xy;
      }
    }
  }
}

FieldFit::Normal FieldFit::measure(const Field& field, bool with_matrix) {
  const View<const RidgePixel> finest = fixed_.level[kRidgeLevels - 1];
  const FieldJob job{points_, finest.data, finest.stride, finest.width, finest.height};
  const int cells = cells_across(field) * cells_down(field);
  context_.parallel_for(cells, kGrain, [&](int begin, int end, int) {
    for (int cell = begin; cell < end; ++cell) {
      if (first_[cell] == first_[cell + 1]) continue;
      alignas(64) float control[2][kTaps];
      for (int k = 0; k < kTaps; ++k)
        for (int axis = 0; axis < 2; ++axis)
          control[axis][k] = static_cast<float>(field.control[2 * control_of(field, cell, k) + axis]);
      cell_sums(job, control, first_[cell], first_[cell + 1], with_matrix, sums_[cell]);
    }
  });
  Total total;
  total.mm = mm_, total.points = n_;
  for (int cell = 0; cell < cells; ++cell)
    if (first_[cell] != first_[cell + 1])
      total.ff += sums_[cell].ff, total.fm += sums_[cell].fm, total.fs += sums_[cell].fs;
  Normal out;
  out.correlation = total.correlation();
  for (int cell = 0; cell < cells; ++cell) {
    const int count = first_[cell + 1] - first_[cell];
    if (count == 0) continue;
    const CellFit fit =
        fit_cell(sums_[cell], count, cell_m_[cell], cell_mm_[cell], total, points_worth(step_) * options_.samples_per_point);
    gain_[cell] = fit.gain, weight_[cell] = fit.weight;
    out.log_likelihood += fit.log_likelihood;
  }
  if (with_matrix) {
    normal_.n = factor_.n = 2 * field.columns * field.rows;
    normal_.width = factor_.width = 6 * field.columns + 8;
    std::fill_n(normal_.data, normal_.n * normal_.width, 0.0);
    std::fill_n(gradient_, normal_.n, 0.0);
    scatter(field, total.mean());
  }
  out.cost = prior(field, with_matrix) - out.log_likelihood;
  return out;
}

// delta_ = (normal + damping x its diagonal)^-1 gradient, by Cholesky. false: not positive definite.
bool FieldFit::step(const Field& field, double damping) {
  const int n = normal_.n, width = normal_.width, reach = 6 * field.columns + 7;
  std::copy_n(normal_.data, n * width, factor_.data);
  std::copy_n(gradient_, n, delta_);
  for (int j = 0; j < n; ++j) factor_.at(j, j) *= 1 + damping;
  for (int j = 0; j < n; ++j) {
    double* column = &factor_.at(j, j);
    const int last = std::min(reach, n - 1 - j);
    if (!(column[0] > 0)) return false;
    const double root = std::sqrt(column[0]), inverse = 1 / root;
    column[0] = root;
    for (int k = 1; k <= last; ++k) column[k] *= inverse;
    delta_[j] *= inverse;
    for (int k = 1; k <= last; ++k) {
      const double scale = column[k];
      double* __restrict other = &factor_.at(j + k, j + k);
      for (int i = k; i <= last; ++i) other[i - k] -= scale * column[i];
      delta_[j + k] -= scale * delta_[j];
    }
  }
  for (int j = n - 1; j >= 0; --j) {
    const double* column = &factor_.at(j, j);
    const int last = std::min(reach, n - 1 - j);
    for (int k = 1; k <= last; ++k) delta_[j] -= column[k] * delta_[j + k];
    delta_[j] /= column[0];
  }
  return true;
}

int FieldFit::run(const Field& field, double* control, int max_iterations) {
  const int n = 2 * field.columns * field.rows;
  Field next = field;
  next.control = trial_;
  Normal now = measure(field, true);
  double damping = kFirstDamping;
  int iteration = 0;
  while (iteration < max_iterations) {
    ++iteration;
    bool better = false;
    double moved = 0;
    for (int trial = 0; trial < kTrials && !better; ++trial) {
      if (!step(field, damping)) return iteration;
      moved = 0;
      for (int i = 0; i < n; ++i) moved = std::max(moved, std::abs(delta_[i]));
      const double shrink = shrink_of(moved);
      for (int i = 0; i < n; ++i) trial_[i] = control[i] + shrink * delta_[i];
      better = measure(next, false).cost < now.cost;
      if (!better && moved < options_.epsilon_px) break;
      damping = next_damping(damping, better);
    }
    if (!better) break;
    std::copy_n(trial_, n, control);
    if (moved < options_.epsilon_px) break;
    now = measure(field, true);
  }
  return iteration;
}

double FieldFit::correlation(const Field& field) { return measure(field, false).correlation; }

double FieldFit::log_likelihood(const Field& field) { return measure(field, false).log_likelihood; }

void FieldFit::reach(const Field& field, double& rms, double& most) const {
  double sum = 0;
  most = 0;
  for (int k = 0; k < n_; ++k) {
    const Point d = displacement(field, {fx_[order_[k]], fy_[order_[k]]});
    const double squared = d.x * d.x + d.y * d.y;
    sum += squared;
    most = std::max(most, squared);
  }
  most = std::sqrt(most);
  rms = std::sqrt(sum / std::max(n_, 1));
}

}  // namespace fastretina::cpu
