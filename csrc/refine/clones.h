// Compiles one function body for several instruction sets. The bodies are plain loops without reassociation, with
// explicit fmaf, so that every clone gives the same bits.
#pragma once

#include "core/simd.h"

#if defined(__GNUC__)
#define FR_INLINE inline __attribute__((always_inline))
#else
#define FR_INLINE inline
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define FR_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define FR_TARGET_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl" FR_PREFER_512)))
// Defines `void name parameters`, which runs `name##_body arguments` in the clone that the machine allows.
#define FR_CLONES(name, parameters, arguments)                              \
  FR_TARGET_AVX512 void name##_avx512 parameters { name##_body arguments; } \
  FR_TARGET_AVX2 void name##_avx2 parameters { name##_body arguments; }     \
  void name##_scalar parameters { name##_body arguments; }                  \
  void name parameters {                                                    \
    if (simd_level() >= SimdLevel::avx512) return name##_avx512 arguments;  \
    if (simd_level() >= SimdLevel::avx2) return name##_avx2 arguments;      \
    name##_scalar arguments;                                                \
  }
#else
#define FR_CLONES(name, parameters, arguments) \
  void name parameters { name##_body arguments; }
#endif
