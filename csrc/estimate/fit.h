// Weighted least squares around a model, by the moments of kernels.h.
#pragma once

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

Form form_of(TransformKind kind);
int parameter_count(TransformKind kind);

// Raises `model` to the form of `kind`; the map stays the same.
void promote(TransformKind kind, Model& model);

// One Gauss-Newton step (exact for the linear kinds) from `model`. false: singular, `model` unchanged.
bool fit_step(const Moments& moments, const FitRules& rules, Model& model, Certainty* certainty = nullptr);

// d(u, v) / d(parameters) at (x, y), and from it the variance of the predicted place along its worst axis, per unit
// variance of a residual.
double prediction_variance(const Certainty& certainty, TransformKind kind, const Model& model, double x, double y);

Hypothesis as_hypothesis(const Model& model);
Model as_model(const Hypothesis& hypothesis);

// Between the caller's coordinates and the room's (see estimate_math.h).
struct Coordinates {
  double moving_x = 0, moving_y = 0, scale = 1, fixed_x = 0, fixed_y = 0;
};
bool to_transform(const Model& model, TransformKind kind, const Coordinates& coordinates, Transform& out);
bool from_transform(const Transform& transform, const Coordinates& coordinates, Model& out);

}  // namespace fastretina::estimating
