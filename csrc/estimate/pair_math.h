// What one pair adds to the sums of kernels.h. T: a number, or a pack of them (lanes.h).
#pragma once

#include "estimate/kernels.h"

namespace fastretina::estimating {

template <Form form, class T>
FR_HD_FLAT void residual_squared(const float* p, const T& x, const T& y, const T& u, const T& v, T& out) {
  T mu, mv, w{};
  map_point<form>(p, x, y, mu, mv, w);
  const T du = u - mu, dv = v - mv;
  out = du * du + dv * dv;
  if constexpr (form == Form::homography) {
    const T far = out * 0.0F + 1e30F;
    out = w > 0.0F ? out : far;
  }
}

// What trunc() of is a pair's gain; slope = kGainUnit / threshold^2.
template <class T>
FR_HD_FLAT void gain_of(const T& residual, float slope, const T& weight, T& out) {
  const T g = kGainUnit - residual * slope, zero{};
  out = (g > 0.0F ? g : zero) * weight;
}

// Adders: q is the weight of the pair, ru and rv its residuals, w = 1 / denominator.
// affine: 0..5 q (x^2, x y, x, y^2, y, 1); 6..8 q ru (x, y, 1); 9..11 q rv (x, y, 1).
// homography: 0..5 as above with q w^2 for q; 6..10 q w^2 U (x^2, x y, y^2, x, y); 11..15 the same with V;
//   16..18 q w^2 (U^2 + V^2) (x^2, x y, y^2); 19..21 q w ru (x, y, 1); 22..24 q w rv (x, y, 1);
//   25, 26 -q w (U ru + V rv) (x, y).
// quadratic: 0..14 q (1, x, y, x^2, x y, y^2, x^3, x^2 y, x y^2, y^3, x^4, x^3 y, x^2 y^2, x y^3, y^4);
//   15..20 q ru (1, x, y, x^2, x y, y^2); 21..26 the same with rv.
template <Form form, class T>
FR_HD_FLAT void add_moments(T* sum, const T& q, const T& x, const T& y, const T& u, const T& v, const T& w, const T& ru,
                            const T& rv) {
  if constexpr (form == Form::quadratic) {
    const T xx = x * x, xy = x * y, yy = y * y, qxx = q * xx, qxy = q * xy, qyy = q * yy;
    sum[0] += q, sum[1] += q * x, sum[2] += q * y, sum[3] += qxx, sum[4] += qxy, sum[5] += qyy;
    sum[6] += qxx * x, sum[7] += qxx * y, sum[8] += qyy * x, sum[9] += qyy * y;
    sum[10] += qxx * xx, sum[11] += qxx * xy, sum[12] += qxx * yy, sum[13] += qxy * yy, sum[14] += qyy * yy;
    const T a = q * ru, b = q * rv;
    sum[15] += a, sum[16] += a * x, sum[17] += a * y, sum[18] += a * xx, sum[19] += a * xy, sum[20] += a * yy;
    sum[21] += b, sum[22] += b * x, sum[23] += b * y, sum[24] += b * xx, sum[25] += b * xy, sum[26] += b * yy;
  } else {
    const T s = form == Form::homography ? q * w * w : q;
    const T sx = s * x, sy = s * y, sxx = sx * x, sxy = sx * y, syy = sy * y;
    sum[0] += sxx, sum[1] += sxy, sum[2] += sx, sum[3] += syy, sum[4] += sy, sum[5] += s;
    if constexpr (form == Form::homography) {
      sum[6] += sxx * u, sum[7] += sxy * u, sum[8] += syy * u, sum[9] += sx * u, sum[10] += sy * u;
      sum[11] += sxx * v, sum[12] += sxy * v, sum[13] += syy * v, sum[14] += sx * v, sum[15] += sy * v;
      const T n = u * u + v * v;
      sum[16] += sxx * n, sum[17] += sxy * n, sum[18] += syy * n;
      const T a = q * w * ru, b = q * w * rv, c = u * a + v * b;
      sum[19] += a * x, sum[20] += a * y, sum[21] += a, sum[22] += b * x, sum[23] += b * y, sum[24] += b;
      sum[25] -= c * x, sum[26] -= c * y;
    } else {
      const T a = q * ru, b = q * rv;
      sum[6] += a * x, sum[7] += a * y, sum[8] += a, sum[9] += b * x, sum[10] += b * y, sum[11] += b;
    }
  }
}

// A pair of weight q: its biweight moments around the map p, inverse = 1 / threshold^2.
template <Form form, class T>
FR_HD_FLAT void add_pair(const double* p, double inverse, const T& x, const T& y, const T& u, const T& v,
                         const T& weight, T* sum, T& inliers) {
  T mu, mv, w{};
  map_point<form>(p, x, y, mu, mv, w);
  const T ru = u - mu, rv = v - mv, zero{};
  T closeness = 1.0 - (ru * ru + rv * rv) * inverse;
  if constexpr (form == Form::homography) closeness = w > 0.0 ? closeness : zero;
  const T one = zero + 1.0;
  inliers += closeness > 0.0 ? one : zero;
  const T q = closeness > 0.0 ? weight * closeness * closeness : zero;
  // What lies outside may be infinite (a pole, the padding): it must not reach the sums as 0 * infinity.
  const T safe_ru = closeness > 0.0 ? ru : zero, safe_rv = closeness > 0.0 ? rv : zero;
  if constexpr (form == Form::homography) {
    w = closeness > 0.0 ? w : zero, mu = closeness > 0.0 ? mu : zero, mv = closeness > 0.0 ? mv : zero;
  }
  add_moments<form>(sum, q, x, y, mu, mv, w, safe_ru, safe_rv);
}

}  // namespace fastretina::estimating
