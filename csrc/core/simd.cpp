#include "core/simd.h"

#include <algorithm>
#include <atomic>

namespace fastretina {
namespace {

SimdLevel machine_level() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return SimdLevel::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  if (!avx512) return SimdLevel::avx2;
  return __builtin_cpu_supports("avx512bf16") ? SimdLevel::avx512bf16 : SimdLevel::avx512;
#else
  return SimdLevel::scalar;
#endif
}

std::atomic<SimdLevel>& chosen() {
  static std::atomic<SimdLevel> level{machine_level()};
  return level;
}

}  // namespace

SimdLevel simd_level() { return chosen().load(std::memory_order_relaxed); }

void limit_simd_level(SimdLevel level) { chosen() = std::min(level, machine_level()); }

const char* simd_level_name(SimdLevel level) {
  constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "avx512bf16"};
  return kNames[static_cast<int>(level)];
}

}  // namespace fastretina
