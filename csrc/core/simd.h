// Which instruction set the CPU twins may use, asked once at run time. One binary runs everywhere: kernels for a level
// are compiled with function target attributes and chosen here. Every level of a room gives the same bits.
#pragma once

// In a target attribute: vectors as wide as the registers are. GCC's word; Clang would ignore the whole attribute for it.
#if defined(__GNUC__) && !defined(__clang__)
#define FR_PREFER_512 ",prefer-vector-width=512"
#else
#define FR_PREFER_512
#endif

namespace fastretina {

enum class SimdLevel : int {
  scalar = 0,  // any machine
  avx2 = 1,    // AVX2 + FMA + F16C
  avx512 = 2,  // AVX-512 F, BW, DQ, VL, VNNI
  avx512bf16 = 3,  // + AVX-512 BF16
};

SimdLevel simd_level();

// For tests: use at most this level from now on (never more than the machine has).
void limit_simd_level(SimdLevel level);

const char* simd_level_name(SimdLevel level);

}  // namespace fastretina
