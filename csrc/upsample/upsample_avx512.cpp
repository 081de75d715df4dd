#include "core/target.h"
#include "upsample/upsample_math.h"
#include "upsample/upsample_rows.h"

#if FR_X86
#include <immintrin.h>

namespace fastretina::cpu {
namespace {

// Lane l of a vector is phase l % 4 of cell l / 4 of four neighbouring cells; these tables say which of the eight cells
// around them is its tap k, and with what weight.
struct LaneTables {
  alignas(64) int tap[4][16];
  alignas(64) float weight[4][16];
};

constexpr LaneTables make_lane_tables() {
  LaneTables t{};
  for (int k = 0; k < 4; ++k)
    for (int lane = 0; lane < 16; ++lane) {
      t.tap[k][lane] = lane / 4 + 2 + phase_tap(lane % 4, k);
      t.weight[k][lane] = phase_weights(lane % 4).w[k];
    }
  return t;
}
constexpr LaneTables kLanes = make_lane_tables();

// The masked form with every lane on: the plain one trips gcc 12's -Wmaybe-uninitialized.
FR_AVX512 inline __m512 spread(__m512i tap, __m512 cells) { return _mm512_maskz_permutexvar_ps(0xFFFF, tap, cells); }

}  // namespace

FR_AVX512 void expand_avx512(const float* cells, int width, float* out) {
  __m512i tap[4];
  __m512 weight[4];
  for (int k = 0; k < 4; ++k) {
    tap[k] = _mm512_load_si512(kLanes.tap[k]);
    weight[k] = _mm512_load_ps(kLanes.weight[k]);
  }
  for (int i = 0; i < width; i += 4) {
    const __m512 v = _mm512_maskz_loadu_ps(0x00FF, cells + i - 2);
    __m512 sum = _mm512_mul_ps(weight[0], spread(tap[0], v));
    sum = _mm512_fmadd_ps(weight[3], spread(tap[3], v), sum);
    sum = _mm512_fmadd_ps(weight[2], spread(tap[2], v), sum);
    sum = _mm512_fmadd_ps(weight[1], spread(tap[1], v), sum);
    _mm512_storeu_ps(out + 4 * i, sum);
  }
}

FR_AVX512 void blend_avx512(const float* const taps[4], int phase, int n, float* out) {
  const CubicWeights c = phase_weights(phase);
  const __m512 w0 = _mm512_set1_ps(c.w[0]), w1 = _mm512_set1_ps(c.w[1]);
  const __m512 w2 = _mm512_set1_ps(c.w[2]), w3 = _mm512_set1_ps(c.w[3]);
  for (int x = 0; x < n; x += 16) {
    // Masked: `out` belongs to the caller and ends at n.
    const auto lanes = static_cast<__mmask16>(n - x >= 16 ? 0xFFFFu : (1u << (n - x)) - 1);
    __m512 sum = _mm512_mul_ps(w0, _mm512_maskz_loadu_ps(lanes, taps[0] + x));
    sum = _mm512_fmadd_ps(w3, _mm512_maskz_loadu_ps(lanes, taps[3] + x), sum);
    sum = _mm512_fmadd_ps(w2, _mm512_maskz_loadu_ps(lanes, taps[2] + x), sum);
    sum = _mm512_fmadd_ps(w1, _mm512_maskz_loadu_ps(lanes, taps[1] + x), sum);
    _mm512_mask_storeu_ps(out + x, lanes, sum);
  }
}

}  // namespace fastretina::cpu
#endif
