// Weighted least squares around a model, by the moments of kernels.h. Host and device.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/transform.h"
#include "estimate/kernels.h"

namespace fastretina::estimating {

// What a fit may move. Similarities and affine maps have Form::affine.
struct FitRules {
  TransformKind kind = TransformKind::similarity;
  bool mirrored = false;  // similarities only: which hand
  // Ridge on what bends (perspective terms, second-order terms), per unit of the room's coordinates: pulls them
  // towards 0 with the strength of a measurement of this many pixels^-2. Linear terms are free.
  double ridge = 0;
};

inline constexpr int kMaxParameters = 12;

// Inverse of the normal matrix (parameters of one row for quadratics), for how certain a prediction is.
struct Certainty {
  int parameters = 0;
  double inverse[8 * 8] = {};
};

namespace fitting {

// Cholesky factor of the n x n matrix in place (lower triangle). false: not positive definite.
FR_HD bool factorise(double* a, int n) {
  for (int j = 0; j < n; ++j) {
    const double diagonal = a[j * n + j];
    double d = diagonal;
    for (int k = 0; k < j; ++k) d -= a[j * n + k] * a[j * n + k];
    if (!(d > 1e-11 * diagonal) || !(d > 0)) return false;
    a[j * n + j] = std::sqrt(d);
    for (int i = j + 1; i < n; ++i) {
      double s = a[i * n + j];
      for (int k = 0; k < j; ++k) s -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = s / a[j * n + j];
    }
  }
  return true;
}

FR_HD void solve_factorised(const double* a, int n, double* b) {
  for (int i = 0; i < n; ++i) {
    double s = b[i];
    for (int k = 0; k < i; ++k) s -= a[i * n + k] * b[k];
    b[i] = s / a[i * n + i];
  }
  for (int i = n - 1; i >= 0; --i) {
    double s = b[i];
    for (int k = i + 1; k < n; ++k) s -= a[k * n + i] * b[k];
    b[i] = s / a[i * n + i];
  }
}

FR_HD void fill_certainty(const double* factor, int n, Certainty* certainty) {
  if (!certainty) return;
  certainty->parameters = n;
  for (int c = 0; c < n; ++c) {
    double column[8] = {};
    column[c] = 1;
    solve_factorised(factor, n, column);
    for (int r = 0; r < n; ++r) certainty->inverse[r * n + c] = column[r];
  }
}

FR_HD bool finite(const double* values, int count) {
  for (int i = 0; i < count; ++i)
    if (!std::isfinite(values[i])) return false;
  return true;
}

// u = a x -+ b y + c, v = b x +- a y + d; lower signs are the mirrored hand.
FR_HD bool step_similarity(const double* m, bool mirrored, Model& model, Certainty* certainty) {
  const double h = mirrored ? -1 : 1;
  const double xx = m[0] + m[3], sx = m[2], sy = m[4], n = m[5];
  double a[16] = {xx, 0, sx, h * sy, 0, xx, -h * sy, sx, sx, -h * sy, n, 0, h * sy, sx, 0, n};
  double b[4] = {m[6] + h * m[10], m[9] - h * m[7], m[8], m[11]};
  if (!factorise(a, 4)) return false;
  solve_factorised(a, 4, b);
  if (!finite(b, 4)) return false;
  model.p[0] += b[0], model.p[1] -= h * b[1], model.p[2] += b[2];
  model.p[3] += b[1], model.p[4] += h * b[0], model.p[5] += b[3];
  fill_certainty(a, 4, certainty);
  return true;
}

FR_HD bool step_affine(const double* m, Model& model, Certainty* certainty) {
  double a[9] = {m[0], m[1], m[2], m[1], m[3], m[4], m[2], m[4], m[5]};
  double u[3] = {m[6], m[7], m[8]}, v[3] = {m[9], m[10], m[11]};
  if (!factorise(a, 3)) return false;
  solve_factorised(a, 3, u);
  solve_factorised(a, 3, v);
  if (!finite(u, 3) || !finite(v, 3)) return false;
  for (int i = 0; i < 3; ++i) model.p[i] += u[i], model.p[3 + i] += v[i];
  fill_certainty(a, 3, certainty);
  return true;
}

FR_HD bool step_homography(const double* m, double ridge, Model& model, Certainty* certainty) {
  double a[64] = {};
  const double block[9] = {m[0], m[1], m[2], m[1], m[3], m[4], m[2], m[4], m[5]};
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) a[r * 8 + c] = a[(3 + r) * 8 + 3 + c] = block[3 * r + c];
  const auto couple = [&a](int row, const double* s) {  // s: x^2, x y, y^2, x, y with U or V
    const double columns[6] = {s[0], s[1], s[1], s[2], s[3], s[4]};
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 2; ++c) a[(row + r) * 8 + 6 + c] = a[(6 + c) * 8 + row + r] = -columns[2 * r + c];
  };
  couple(0, m + 6);
  couple(3, m + 11);
  a[6 * 8 + 6] = m[16] + ridge, a[6 * 8 + 7] = a[7 * 8 + 6] = m[17], a[7 * 8 + 7] = m[18] + ridge;
  double b[8];
  for (int i = 0; i < 8; ++i) b[i] = m[19 + i];
  b[6] -= ridge * model.p[6], b[7] -= ridge * model.p[7];
  if (!factorise(a, 8)) return false;
  solve_factorised(a, 8, b);
  if (!finite(b, 8)) return false;
  for (int i = 0; i < 8; ++i) model.p[i] += b[i];
  fill_certainty(a, 8, certainty);
  return true;
}

FR_HD bool step_quadratic(const double* m, double ridge, Model& model, Certainty* certainty) {
  // Which moment is the product of basis functions r and c of 1, x, y, x^2, x y, y^2.
  constexpr int kProduct[36] = {0, 1, 2, 3,  4,  5,  1, 3, 4, 6,  7,  8,  2, 4, 5, 7,  8,  9,
                                3, 6, 7, 10, 11, 12, 4, 7, 8, 11, 12, 13, 5, 8, 9, 12, 13, 14};
  double a[36];
  for (int i = 0; i < 36; ++i) a[i] = m[kProduct[i]];
  double u[6], v[6];
  for (int i = 0; i < 6; ++i) u[i] = m[15 + i], v[i] = m[21 + i];
  for (int i = 3; i < 6; ++i) {
    a[7 * i] += ridge;
    u[i] -= ridge * model.p[i], v[i] -= ridge * model.p[6 + i];
  }
  if (!factorise(a, 6)) return false;
  solve_factorised(a, 6, u);
  solve_factorised(a, 6, v);
  if (!finite(u, 6) || !finite(v, 6)) return false;
  for (int i = 0; i < 6; ++i) model.p[i] += u[i], model.p[6 + i] += v[i];
  fill_certainty(a, 6, certainty);
  return true;
}

FR_HD double quadratic_form(const Certainty& c, const double* g) {
  double sum = 0;
  for (int i = 0; i < c.parameters; ++i)
    for (int j = 0; j < c.parameters; ++j) sum += g[i] * c.inverse[i * c.parameters + j] * g[j];
  return sum;
}

}  // namespace fitting

FR_HD Form form_of(TransformKind kind) {
  return kind == TransformKind::quadratic    ? Form::quadratic
         : kind == TransformKind::homography ? Form::homography
                                             : Form::affine;
}

FR_HD int parameter_count(TransformKind kind) {
  constexpr int kCount[] = {0, 4, 6, 8, 12};
  return kCount[static_cast<int>(kind)];
}

// Raises `model` to the form of `kind`; the map stays the same.
FR_HD void promote(TransformKind kind, Model& model) {
  const Form form = form_of(kind);
  if (form == Form::quadratic && model.form == Form::affine) {
    const double* p = model.p;
    model = {Form::quadratic, {p[2], p[0], p[1], 0, 0, 0, p[5], p[3], p[4], 0, 0, 0}};
  } else if (model.form != Form::quadratic) {
    model.form = form;
  }
}

// One Gauss-Newton step (exact for the linear kinds) from `model`. false: singular, `model` unchanged.
FR_HD_CALL bool fit_step(const Moments& moments, const FitRules& rules, Model& model, Certainty* certainty = nullptr) {
  switch (rules.kind) {
    case TransformKind::homography:
      return fitting::step_homography(moments.sum, rules.ridge, model, certainty);
    case TransformKind::quadratic:
      return fitting::step_quadratic(moments.sum, rules.ridge, model, certainty);
    case TransformKind::affine:
      return fitting::step_affine(moments.sum, model, certainty);
    default:
      return fitting::step_similarity(moments.sum, rules.mirrored, model, certainty);
  }
}

// d(u, v) / d(parameters) at (x, y), and from it the variance of the predicted place along its worst axis, per unit
// variance of a residual.
FR_HD double prediction_variance(const Certainty& certainty, TransformKind kind, const Model& model, double x,
                                 double y) {
  if (kind == TransformKind::similarity) {
    const double gu[4] = {x, -y, 1, 0};  // the other hand and axis give the same variance
    return fitting::quadratic_form(certainty, gu);
  }
  if (kind == TransformKind::affine) {
    const double g[3] = {x, y, 1};
    return fitting::quadratic_form(certainty, g);
  }
  if (kind == TransformKind::quadratic) {
    const double g[6] = {1, x, y, x * x, x * y, y * y};
    return fitting::quadratic_form(certainty, g);
  }
  double u = 0, v = 0, w = 0;
  map_point<Form::homography>(model.p, x, y, u, v, w);
  const double gu[8] = {x * w, y * w, w, 0, 0, 0, -x * w * u, -y * w * u};
  const double gv[8] = {0, 0, 0, x * w, y * w, w, -x * w * v, -y * w * v};
  return std::max(fitting::quadratic_form(certainty, gu), fitting::quadratic_form(certainty, gv));
}

FR_HD Hypothesis as_hypothesis(const Model& model) {
  Hypothesis h;
  h.form = model.form;
  for (int i = 0; i < 12; ++i) h.p[i] = static_cast<float>(model.p[i]);
  return h;
}

FR_HD Model as_model(const Hypothesis& hypothesis) {
  Model m;
  m.form = hypothesis.form;
  for (int i = 0; i < 12; ++i) m.p[i] = static_cast<double>(hypothesis.p[i]);
  if (m.form == Form::affine) m.p[6] = m.p[7] = 0, m.p[8] = 1;
  return m;
}

// Between the caller's coordinates and the room's (see estimate_math.h).
struct Coordinates {
  double moving_x = 0, moving_y = 0, scale = 1, fixed_x = 0, fixed_y = 0;
};
FR_HD bool to_transform(const Model& model, TransformKind kind, const Coordinates& c, Transform& out) {
  Transform inner;
  inner.kind = kind;
  for (int i = 0; i < 12; ++i) inner.p[i] = model.p[i];
  Transform part;
  return compose(inner, scaling(1 / c.scale, -c.moving_x / c.scale, -c.moving_y / c.scale), part) &&
         compose(scaling(1, c.fixed_x, c.fixed_y), part, out);
}

FR_HD bool from_transform(const Transform& transform, const Coordinates& c, Model& out) {
  Transform part, whole;
  if (!compose(transform, scaling(c.scale, c.moving_x, c.moving_y), part)) return false;
  if (!compose(scaling(1, -c.fixed_x, -c.fixed_y), part, whole)) return false;
  out.form = form_of(whole.kind);
  for (int i = 0; i < 12; ++i) out.p[i] = whole.p[i];
  return fitting::finite(out.p, 12) && (out.form != Form::homography || out.p[8] == 1);
}

}  // namespace fastretina::estimating
