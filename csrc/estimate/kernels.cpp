#include "estimate/kernels.h"

#include "core/simd.h"
#include "estimate/kernels_body.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // packs never cross a function that is not inlined
#endif

namespace fastretina::estimating {

// One function of each kind for an instruction set; TARGET is its attribute.
#define FR_ESTIMATE_KERNELS(NAME, TARGET)                                                                            \
  TARGET int hits_##NAME(const PairArrays& pairs, const Hypothesis& h, float squared, int begin, int end) {          \
    if (h.form == Form::affine) return hits_body<Form::affine>(pairs, h.p, squared, begin, end);                     \
    if (h.form == Form::homography) return hits_body<Form::homography>(pairs, h.p, squared, begin, end);             \
    return hits_body<Form::quadratic>(pairs, h.p, squared, begin, end);                                              \
  }                                                                                                                  \
  TARGET std::int64_t gain_##NAME(const PairArrays& pairs, const Hypothesis& h, float squared) {                     \
    if (h.form == Form::affine) return gain_body<Form::affine>(pairs, h.p, squared);                                 \
    if (h.form == Form::homography) return gain_body<Form::homography>(pairs, h.p, squared);                         \
    return gain_body<Form::quadratic>(pairs, h.p, squared);                                                          \
  }                                                                                                                  \
  TARGET void moments_##NAME(const PairArrays& pairs, const Model& m, double squared, double enough, Moments* out) { \
    if (m.form == Form::affine) return moments_body<Form::affine>(pairs, m.p, squared, enough, out);                 \
    if (m.form == Form::homography) return moments_body<Form::homography>(pairs, m.p, squared, enough, out);         \
    moments_body<Form::quadratic>(pairs, m.p, squared, enough, out);                                                 \
  }                                                                                                                  \
  constexpr Kernels kKernels_##NAME = {hits_##NAME, gain_##NAME, moments_##NAME};

namespace {

FR_ESTIMATE_KERNELS(portable, )
#if defined(__x86_64__) && defined(__GNUC__)
FR_ESTIMATE_KERNELS(avx2, __attribute__((target("avx2"))))
#if defined(__clang__)
FR_ESTIMATE_KERNELS(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#else
FR_ESTIMATE_KERNELS(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl" FR_PREFER_512))))
#endif
#endif

}  // namespace

const Kernels& kernels() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (simd_level() >= SimdLevel::avx512) return kKernels_avx512;
  if (simd_level() >= SimdLevel::avx2) return kKernels_avx2;
#endif
  return kKernels_portable;
}

}  // namespace fastretina::estimating
