// Bodies of the loops in kernels.h. They are inlined into one function per instruction set (kernels.cpp).
#pragma once

#include "estimate/kernels.h"
#include "estimate/lanes.h"
#include "estimate/pair_math.h"

namespace fastretina::estimating {

template <Form form>
FR_PACK_INLINE void residual_squared(const PairArrays& pairs, const float* p, int i, lanes::F32& out) {
  lanes::F32 x, y, u, v;
  lanes::load(x, pairs.x + i), lanes::load(y, pairs.y + i), lanes::load(u, pairs.u + i), lanes::load(v, pairs.v + i);
  residual_squared<form>(p, x, y, u, v, out);
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
      lanes::F32 r, weight, g;
      residual_squared<form>(pairs, p, i, r);
      lanes::load(weight, pairs.weight + i);
      gain_of(r, slope, weight, g);
      lanes::I32 whole;
      lanes::to_int(whole, g);
      sum += whole;
    }
    gain += lanes::total(sum);
  }
  return gain;
}

template <Form form>
FR_PACK_INLINE void moments_body(const PairArrays& pairs, const double* p, double squared, double enough,
                                 Moments* out) {
  using lanes::F64;
  constexpr int kSums = form == Form::affine ? 12 : kMoments;
  F64 sum[kSums] = {};
  F64 inliers{};
  const double inverse = 1.0 / squared;
  const int padded = pairs.padded();
  for (int block = 0; block < padded && lanes::total(inliers) < enough; block += kCheck) {
    const int end = padded < block + kCheck ? padded : block + kCheck;
    for (int i = block; i < end; i += lanes::kF64) {
      F64 x, y, u, v, weight;
      lanes::load_as_double(x, pairs.x + i), lanes::load_as_double(y, pairs.y + i);
      lanes::load_as_double(u, pairs.u + i), lanes::load_as_double(v, pairs.v + i);
      lanes::load_as_double(weight, pairs.weight + i);
      add_pair<form>(p, inverse, x, y, u, v, weight, sum, inliers);
    }
  }
  *out = {};
  for (int k = 0; k < kSums; ++k) out->sum[k] = lanes::total(sum[k]);
  out->inliers = lanes::total(inliers);
}

}  // namespace fastretina::estimating
