// A pack of numbers that one instruction works on. Kernels are written once on packs and compiled for every instruction
// set; products and sums are never fused, so that every set (and the torch twin) gives the same bits.
// A compiler without vector extensions gets packs of one.
#pragma once

#include <cstring>

namespace fastretina::lanes {

#if defined(__GNUC__)
#define FR_PACK_INLINE [[gnu::always_inline]] inline
typedef float F32 __attribute__((vector_size(64)));
typedef int I32 __attribute__((vector_size(64)));
typedef double F64 __attribute__((vector_size(64)));
typedef float HalfF32 __attribute__((vector_size(32)));
inline constexpr int kF32 = 16, kF64 = 8;
// Halves are added until one number is left; the order is part of the result of a double sum.
FR_PACK_INLINE int total(const I32& v) {
  typedef int I8 __attribute__((vector_size(32)));
  typedef int I4 __attribute__((vector_size(16)));
  I8 a[2];
  std::memcpy(a, &v, sizeof(a));
  a[0] += a[1];
  I4 b[2];
  std::memcpy(b, a, sizeof(b));
  b[0] += b[1];
  return (b[0][0] + b[0][2]) + (b[0][1] + b[0][3]);
}
FR_PACK_INLINE double total(const F64& v) {
  typedef double D4 __attribute__((vector_size(32)));
  typedef double D2 __attribute__((vector_size(16)));
  D4 a[2];
  std::memcpy(a, &v, sizeof(a));
  a[0] += a[1];
  D2 b[2];
  std::memcpy(b, a, sizeof(b));
  b[0] += b[1];
  return b[0][0] + b[0][1];
}
#else
#define FR_PACK_INLINE inline
using F32 = float;
using I32 = int;
using F64 = double;
using HalfF32 = float;
inline constexpr int kF32 = 1, kF64 = 1;
inline int total(const I32& v) { return v; }
inline double total(const F64& v) { return v; }
#endif

template <class Pack>
FR_PACK_INLINE void load(Pack& pack, const void* from) {
  std::memcpy(&pack, from, sizeof(Pack));
}
FR_PACK_INLINE void to_int(I32& out, const F32& value) {
#if defined(__GNUC__)
  out = __builtin_convertvector(value, I32);
#else
  out = static_cast<int>(value);
#endif
}
FR_PACK_INLINE void load_as_double(F64& out, const float* from) {
#if defined(__GNUC__)
  HalfF32 half;
  std::memcpy(&half, from, sizeof(half));
  out = __builtin_convertvector(half, F64);
#else
  out = static_cast<double>(*from);
#endif
}

}  // namespace fastretina::lanes
