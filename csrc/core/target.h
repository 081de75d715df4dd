// One kernel body, compiled for every SIMD level and chosen at run time.
//
//   FR_INLINE void scale_body(float* out, const float* in, int n) { ... }      // plain loops for the compiler
//   FR_DISPATCH(scale, (float* out, const float* in, int n), (out, in, n))     // defines scale(out, in, n)
//
// The body says fmaf where it means it and fixes the order of its sums, so that every level gives the same bits.
#pragma once

#include "core/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define FR_X86 1
#define FR_AVX2 __attribute__((target("avx2,fma,f16c")))
#define FR_AVX512 \
  __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni" FR_PREFER_512)))
#else
#define FR_X86 0
#endif

#if defined(__GNUC__)
#define FR_INLINE inline __attribute__((always_inline))
#define FR_LAMBDA_INLINE __attribute__((always_inline))  // after a lambda's parameters
#elif defined(_MSC_VER)
#define FR_INLINE __forceinline
#define FR_LAMBDA_INLINE
#else
#define FR_INLINE inline
#define FR_LAMBDA_INLINE
#endif

// FR_DISPATCH_512 is the same with a hand-written avx512::NAME in the place of the compiled body.
#if FR_X86
#define FR_DISPATCH_TO(name, params, args, for_avx512)                \
  static void name##_scalar params { name##_body args; }              \
  FR_AVX2 static void name##_avx2 params { name##_body args; }        \
  void name params {                                                  \
    const ::fastretina::SimdLevel level = ::fastretina::simd_level(); \
    if (level >= ::fastretina::SimdLevel::avx512)                     \
      for_avx512 args;                                                \
    else if (level == ::fastretina::SimdLevel::avx2)                  \
      name##_avx2 args;                                               \
    else                                                              \
      name##_scalar args;                                             \
  }
#define FR_DISPATCH(name, params, args)                            \
  FR_AVX512 static void name##_avx512 params { name##_body args; } \
  FR_DISPATCH_TO(name, params, args, name##_avx512)
#define FR_DISPATCH_512(name, params, args) FR_DISPATCH_TO(name, params, args, avx512::name)
#else
#define FR_DISPATCH(name, params, args) \
  void name params { name##_body args; }
#define FR_DISPATCH_512 FR_DISPATCH
#endif
