// Arithmetic on displacement fields: apply, Jacobian, invert. A uniform cubic B-spline on a control grid: free-form
// deformation, Rueckert et al. 1999. Host and device.
#pragma once

#include <cmath>

#include "core/hd.h"
#include "core/transform.h"
#include "core/types.h"

namespace fastretina {

// The cubic B-spline at control points -1, 0, 1, 2 of a fraction t in [0, 1] of a step, and its derivative by steps.
template <class Real>
FR_HD void spline_weights(Real t, Real w[4]) {
  const Real s = 1 - t, tt = t * t, ss = s * s, sixth = Real(1) / 6;
  w[0] = sixth * ss * s;
  w[1] = sixth * (3 * tt * (t - 2) + 4);
  w[2] = sixth * (3 * ss * (s - 2) + 4);
  w[3] = sixth * tt * t;
}
template <class Real>
FR_HD void spline_slopes(Real t, Real w[4]) {
  const Real s = 1 - t, half = Real(1) / 2;
  w[0] = -half * s * s;
  w[1] = half * t * (3 * t - 4);
  w[2] = half * s * (4 - 3 * s);
  w[3] = half * t * t;
}

// The cell of the control grid that holds a point.
struct FieldCell {
  int column = 0, row = 0;  // of the control point before it; -2 ... columns, -2 ... rows
  double tx = 0, ty = 0;    // fractions of a step behind it
};

// false: the field is 0 there (or the point is NaN).
FR_HD bool cell_of(const Field& f, Point q, FieldCell& cell) {
  const double x = (q.x - f.x0) * (1 / f.step_x), y = (q.y - f.y0) * (1 / f.step_y);
  if (!(x > -2 && x < f.columns + 1 && y > -2 && y < f.rows + 1)) return false;
  const double column = std::floor(x), row = std::floor(y);
  cell = {static_cast<int>(column), static_cast<int>(row), x - column, y - row};
  return true;
}

// Sum over the 4 x 4 control points around a cell, those outside the grid being 0.
FR_HD Point weighed(const Field& f, const FieldCell& cell, const double wx[4], const double wy[4]) {
  const int first = cell.column - 1, top = cell.row - 1;
  const int i0 = first < 0 ? -first : 0, i1 = first + 4 > f.columns ? f.columns - first : 4;
  const int j0 = top < 0 ? -top : 0, j1 = top + 4 > f.rows ? f.rows - top : 4;
  Point sum;
  for (int j = j0; j < j1; ++j) {
    const double* c = f.control + 2 * ((top + j) * f.columns + first);
    double x = 0, y = 0;
    for (int i = i0; i < i1; ++i) x += wx[i] * c[2 * i], y += wx[i] * c[2 * i + 1];
    sum.x += wy[j] * x;
    sum.y += wy[j] * y;
  }
  return sum;
}

FR_HD Point displacement(const Field& f, Point q) {
  FieldCell cell;
  if (!cell_of(f, q, cell)) return {};
  double wx[4], wy[4];
  spline_weights(cell.tx, wx);
  spline_weights(cell.ty, wy);
  return weighed(f, cell, wx, wy);
}

FR_HD Point apply(const Field& f, Point q) {
  const Point d = displacement(f, q);
  return {q.x + d.x, q.y + d.y};
}

FR_HD Jacobian jacobian(const Field& f, Point q) {
  FieldCell cell;
  if (!cell_of(f, q, cell)) return {};
  double wx[4], wy[4], sx[4], sy[4];
  spline_weights(cell.tx, wx);
  spline_weights(cell.ty, wy);
  spline_slopes(cell.tx, sx);
  spline_slopes(cell.ty, sy);
  const Point by_x = weighed(f, cell, sx, wy), by_y = weighed(f, cell, wx, sy);
  return {1 + by_x.x / f.step_x, by_y.x / f.step_y, by_x.y / f.step_x, 1 + by_y.y / f.step_y};
}

FR_HD Point apply(const Deformation& d, Point q) {
  const Point m = apply(d.base, q);
  return d.field.empty() ? m : apply(d.field, m);
}

FR_HD Jacobian jacobian(const Deformation& d, Point q) {
  const Jacobian base = jacobian(d.base, q);
  return d.field.empty() ? base : jacobian(d.field, apply(d.base, q)) * base;
}

// The determinant of the Jacobian at one of the knots and the places half way between them: (2 columns + 7) x
// (2 rows + 7) of them, beyond which it is 1.
FR_HD double determinant_at(const Field& f, int i, int j) {
  return jacobian(f, {f.x0 + 0.5 * (i - 4) * f.step_x, f.y0 + 0.5 * (j - 4) * f.step_y}).determinant();
}

// The least of them; 1 without a field.
double least_jacobian(const Field& f);

}  // namespace fastretina
