// Bodies of the loops in kernels.h. They are inlined into one function per instruction set (kernels.cpp).
#pragma once

#include "estimate/kernels.h"
#include "estimate/lanes.h"

namespace fastretina::estimating {

template <Form form>
FR_PACK_INLINE void residual_squared(const PairArrays& pairs, const float* p, int i, lanes::F32& out) {
  lanes::F32 x, y, u, v, mu, mv, w{};
  lanes::load(x, pairs.x + i), lanes::load(y, pairs.y + i), lanes::load(u, pairs.u + i), lanes::load(v, pairs.v + i);
  map_point<form>(p, x, y, mu, mv, w);
  const lanes::F32 du = u - mu, dv = v - mv;
  out = du * du + dv * dv;
  if constexpr (form == Form::homography) {
    const lanes::F32 far = out * 0.0F + 1e30F;
    out = w > 0.0F ? out : far;
  }
}

template <Form form>
FR_PACK_INLINE int hits_body(const PairArrays& pairs, const float* p, float squared, int begin, int end) {
  lanes::I32 sum{};
  for (int i = begin; i < end; i += lanes::kF32) {
    lanes::F32 r;
    residual_squared<form>(pairs, p, i, r);
    const lanes::I32 zero{}, one = zero + 1;
    sum += r < squared ? one : zero;
  }
  return lanes::total(sum);
}

template <Form form>
FR_PACK_INLINE std::int64_t gain_body(const PairArrays& pairs, const float* p, float squared) {
  constexpr int kBlock = 1 << 16;  // packs, so that a lane stays below 2^31
  const float slope = kGainUnit / squared;
  const int padded = pairs.padded();
  std::int64_t gain = 0;
  for (int block = 0; block < padded; block += kBlock * lanes::kF32) {
    const int end = padded < block + kBlock * lanes::kF32 ? padded : block + kBlock * lanes::kF32;
    lanes::I32 sum{};
    for (int i = block; i < end; i += lanes::kF32) {
      lanes::F32 r, weight;
      residual_squared<form>(pairs, p, i, r);
      lanes::load(weight, pairs.weight + i);
      lanes::F32 g = kGainUnit - r * slope;
      const lanes::F32 zero{};
      g = g > 0.0F ? g : zero;
      lanes::I32 whole;
      lanes::to_int(whole, g * weight);
      sum += whole;
    }
    gain += lanes::total(sum);
  }
  return gain;
}

// Adders: q is the weight of the pair, ru and rv its residuals, w = 1 / denominator.
// affine: 0..5 q (x^2, x y, x, y^2, y, 1); 6..8 q ru (x, y, 1); 9..11 q rv (x, y, 1).
// homography: 0..5 as above with q w^2 for q; 6..10 q w^2 U (x^2, x y, y^2, x, y); 11..15 the same with V;
//   16..18 q w^2 (U^2 + V^2) (x^2, x y, y^2); 19..21 q w ru (x, y, 1); 22..24 q w rv (x, y, 1);
//   25, 26 -q w (U ru + V rv) (x, y).
// quadratic: 0..14 q (1, x, y, x^2, x y, y^2, x^3, x^2 y, x y^2, y^3, x^4, x^3 y, x^2 y^2, x y^3, y^4);
//   15..20 q ru (1, x, y, x^2, x y, y^2); 21..26 the same with rv.
template <Form form, class T>
FR_PACK_INLINE void add_moments(T* sum, const T& q, const T& x, const T& y, const T& u, const T& v, const T& w,
                                const T& ru, const T& rv) {
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

template <Form form>
FR_PACK_INLINE void moments_body(const PairArrays& pairs, const double* p, double squared, double enough,
                                 Moments* out) {
  using lanes::F64;
  constexpr int kSums = form == Form::affine ? 12 : kMoments;
  constexpr int kCheck = 128;  // pairs between looks at `enough`
  F64 sum[kSums] = {};
  F64 inliers{};
  const double inverse = 1.0 / squared;
  const int padded = pairs.padded();
  for (int block = 0; block < padded && lanes::total(inliers) < enough; block += kCheck) {
    const int end = padded < block + kCheck ? padded : block + kCheck;
    for (int i = block; i < end; i += lanes::kF64) {
      F64 x, y, u, v, q, mu, mv, w{};
      lanes::load_as_double(x, pairs.x + i), lanes::load_as_double(y, pairs.y + i);
      lanes::load_as_double(u, pairs.u + i), lanes::load_as_double(v, pairs.v + i);
      lanes::load_as_double(q, pairs.weight + i);
      map_point<form>(p, x, y, mu, mv, w);
      const F64 ru = u - mu, rv = v - mv, zero{};
      F64 closeness = 1.0 - (ru * ru + rv * rv) * inverse;
      if constexpr (form == Form::homography) closeness = w > 0.0 ? closeness : zero;
      const F64 one = zero + 1.0;
      const F64 inside = closeness > 0.0 ? one : zero;
      inliers += inside;
      q = closeness > 0.0 ? q * closeness * closeness : zero;
      // What lies outside may be infinite (a pole, the padding): it must not reach the sums as 0 * infinity.
      const F64 safe_ru = closeness > 0.0 ? ru : zero, safe_rv = closeness > 0.0 ? rv : zero;
      if constexpr (form == Form::homography) {
        w = closeness > 0.0 ? w : zero, mu = closeness > 0.0 ? mu : zero, mv = closeness > 0.0 ? mv : zero;
      }
      add_moments<form>(sum, q, x, y, mu, mv, w, safe_ru, safe_rv);
    }
  }
  *out = {};
  for (int k = 0; k < kSums; ++k) out->sum[k] = lanes::total(sum[k]);
  out->inliers = lanes::total(inliers);
}

}  // namespace fastretina::estimating
