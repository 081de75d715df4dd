// Levenberg-Marquardt on the posterior of the control points given the correlation of the ridges.
//
// With the MOVING values m (centred) and the FIXED values f(p), the least squares of m - gain f - offset leave
// E = |m|^2 (1 - r^2), so that the log-likelihood of refine, -N / 2 log(1 - r^2), is -N / 2 log E up to a constant, and
// gain and offset drop out: its gradient is N gain G'(m - gain (f - mean f)) / E, its curvature about N gain^2 G'G / E.
// Gain and noise differ over an eye (a vessel that one camera does not see, capillaries): each cell of the grid has its own
// r and E, from its points and from kShared further ones that are as all points are on average.
#include "refine/field_fit.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/field.h"
#include "refine/refine_kernels.h"
#include "refine/refine_math.h"
#include "refine/refine_model.h"

namespace fastretina::cpu {
namespace {

using namespace field_kernels;
using namespace refine_math;

constexpr double kMarginPx = 2;  // the reach of the blur, as in refine
constexpr double kStepPx = 2;    // a step moves no control point further
constexpr int kTrials = 4;       // damping values tried for a step
constexpr int kGrain = 4;        // cells a chunk of parallel_for
constexpr double kShared = 80;   // points' worth of all cells in each one's correlation
constexpr double kMostCorrelation = 0.999;

bool well_inside(View<const RidgePixel> finest, double x, double y, double margin) {
  for (const double dy : {-margin, margin})
    for (const double dx : {-margin, margin})
      if (!is_inside(finest.data, finest.stride, finest.width, finest.height, static_cast<float>(x + dx),
                     static_cast<float>(y + dy), 1))
        return false;
  return true;
}

int cells_across(const Field& f) { return f.columns - 3; }  // those whose sixteen control points all exist
int cells_down(const Field& f) { return f.rows - 3; }

// Cell and fraction along one axis of a grid with a ring of control points around its cells.
void place(double at, int cells, int& cell, double& t) {
  cell = std::clamp(static_cast<int>(std::floor(at)), 1, cells);
  t = at - cell;
}

}  // namespace

FieldFit::FieldFit(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                   const Transform& T_fixed_moving, const FieldOptions& options)
    : context_(context), fixed_(fixed), moving_(moving), T_(T_fixed_moving), options_(options) {
  const View<const RidgePixel> own = moving.level[kRidgeLevels - 1];
  const auto lattice = [](int side) { return static_cast<std::size_t>((side + kFinestStepPx - 1) / kFinestStepPx); };
  const std::size_t n = lattice(own.width) * lattice(own.height) + kFieldPad;
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
  const View<const RidgePixel> own = moving_.level[kRidgeLevels - 1], finest = fixed_.level[kRidgeLevels - 1];
  surveyed_ = 0;
  for (int y = step / 2; y < own.height; y += step)
    for (int x = step / 2; x < own.width; x += step) {
      if (own.row(y)[x] >> 24 == 0) continue;
      if (T_.kind == TransformKind::homography && !(T_.p[6] * x + T_.p[7] * y + T_.p[8] > 0)) continue;
      const Point at = apply(T_, {static_cast<double>(x), static_cast<double>(y)});
      if (!well_inside(finest, at.x, at.y, kMarginPx) || !well_inside(own, x, y, kMarginPx)) continue;
      mx_[surveyed_] = static_cast<float>(x), my_[surveyed_] = static_cast<float>(y);
      fx_[surveyed_] = at.x, fy_[surveyed_] = at.y;
      ++surveyed_;
    }
  return surveyed_;
}

Field FieldFit::grid(double* control) const {
  const auto [left, right] = std::minmax_element(fx_, fx_ + surveyed_);
  const auto [top, bottom] = std::minmax_element(fy_, fy_ + surveyed_);
  const View<const RidgePixel> plane = fixed_.level[kRidgeLevels - 1];
  Field field;
  field.step_x = field.step_y = static_cast<double>(std::max(plane.width, plane.height)) / options_.cells;
  field.columns = std::max(1, static_cast<int>(std::ceil((*right - *left) / field.step_x))) + 3;
  field.rows = std::max(1, static_cast<int>(std::ceil((*bottom - *top) / field.step_y))) + 3;
  field.x0 = *left - field.step_x;
  field.y0 = *top - field.step_y;
  field.control = control;
  return field;
}

void FieldFit::choose(const Field& field, Fold fold) {
  const int across = cells_across(field), cells = across * cells_down(field);
  std::fill_n(first_, cells + 1, 0);
  double cx = 0, cy = 0;
  for (int i = 0; i < surveyed_; ++i) {
    const double u = (fx_[i] - field.x0) / field.step_x, v = (fy_[i] - field.y0) / field.step_y;
    const int parity = (static_cast<int>(std::floor(2 * u)) + static_cast<int>(std::floor(2 * v))) & 1;
    cell_[i] = -1;
    if (fold != Fold::all && (parity == 1) != (fold == Fold::odd)) continue;
    int column, row;
    double t;
    place(u, across, column, t);
    place(v, cells_down(field), row, t);
    cell_[i] = (row - 1) * across + column - 1;
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
    int column, row;
    double tx, ty;
    place((fx_[i] - field.x0) / field.step_x, across, column, tx);
    place((fy_[i] - field.y0) / field.step_y, cells_down(field), row, ty);
    points_.tx[k] = static_cast<float>(tx), points_.ty[k] = static_cast<float>(ty);
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
  const int across = cells_across(field), columns = field.columns;
  for (int cell = 0; cell < across * cells_down(field); ++cell) {
    if (first_[cell] == first_[cell + 1]) continue;
    const CellSums& s = sums_[cell];
    const double gain = gain_[cell], slope = weight_[cell] * gain, curvature = slope * gain;
    int at[kTaps];
    for (int k = 0; k < kTaps; ++k) at[k] = (cell / across + k / 4) * columns + cell % across + k % 4;
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
  const int across = cells_across(field), cells = across * cells_down(field);
  context_.parallel_for(cells, kGrain, [&](int begin, int end, int) {
    for (int cell = begin; cell < end; ++cell) {
      if (first_[cell] == first_[cell + 1]) continue;
      alignas(64) float control[2][kTaps];
      for (int k = 0; k < kTaps; ++k)
        for (int axis = 0; axis < 2; ++axis) {
          const int at = (cell / across + k / 4) * field.columns + cell % across + k % 4;
          control[axis][k] = static_cast<float>(field.control[2 * at + axis]);
        }
      cell_sums(job, control, first_[cell], first_[cell + 1], with_matrix, sums_[cell]);
    }
  });
  double ff = 0, fm = 0, fs = 0;
  for (int cell = 0; cell < cells; ++cell)
    if (first_[cell] != first_[cell + 1]) ff += sums_[cell].ff, fm += sums_[cell].fm, fs += sums_[cell].fs;
  Normal out;
  const double mean = fs / std::max(n_, 1), centred = std::max(ff - fs * mean, 1e-12);
  out.correlation = fm / std::sqrt(centred * mm_ + 1e-12);
  const double share = kShared / std::max(n_, 1), 
               samples = options_.samples_per_point * step_ * step_ / (kPointStepPx * kPointStepPx);
  for (int cell = 0; cell < cells; ++cell) {
    const int count = first_[cell + 1] - first_[cell];
    if (count == 0) continue;
    const CellSums& s = sums_[cell];
    const double own_ff = std::max(s.ff - mean * (2 * s.fs - count * mean), 0.0) + share * centred;
    const double own_fm = s.fm - mean * cell_m_[cell] + share * fm, own_mm = cell_mm_[cell] + share * mm_ + 1e-12;
    const double r = std::clamp(own_fm / std::sqrt(own_ff * own_mm), 0.0, kMostCorrelation);
    gain_[cell] = std::max(own_fm, 0.0) / own_ff;
    weight_[cell] = samples * (count + kShared) / (own_mm * (1 - r * r));
    out.log_likelihood -= samples * (count + kShared) * misfit(r);
  }
  if (with_matrix) {
    normal_.n = factor_.n = 2 * field.columns * field.rows;
    normal_.width = factor_.width = 6 * field.columns + 8;
    std::fill_n(normal_.data, normal_.n * normal_.width, 0.0);
    std::fill_n(gradient_, normal_.n, 0.0);
    scatter(field, mean);
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
  double damping = 1e-3;
  int iteration = 0;
  while (iteration < max_iterations) {
    ++iteration;
    bool better = false;
    double moved = 0;
    for (int trial = 0; trial < kTrials && !better; ++trial) {
      if (!step(field, damping)) return iteration;
      moved = 0;
      for (int i = 0; i < n; ++i) moved = std::max(moved, std::abs(delta_[i]));
      const double shrink = std::min(1.0, kStepPx / std::max(moved, 1e-30));
      for (int i = 0; i < n; ++i) trial_[i] = control[i] + shrink * delta_[i];
      better = measure(next, false).cost < now.cost;
      if (!better && moved < options_.epsilon_px) break;
      damping = better ? std::max(0.2 * damping, 1e-5) : std::max(8 * damping, 1e-3);
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
