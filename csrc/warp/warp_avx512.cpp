// Interior samples of the common image types, 16 pixels at a time. The same bits as warp_kernels.cpp.
#include "core/target.h"

#if FR_X86
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12: false alarms from its own intrinsics
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "warp/warp_kernels.h"

namespace fastretina::warp_kernels::avx512 {

using namespace warp_math;

namespace {

// Byte offsets are 32-bit here; frames for which they may not fit take the plain path.
bool offsets_fit(const Source& s, const Positions& p) {
  if (static_cast<double>(s.height) * static_cast<double>(std::abs(s.row_bytes)) < 2e9) return true;
  const float reach = std::max(std::fabs(p.y[0]), std::fabs(p.y[p.count - 1])) + 2.f * kSpan;
  return static_cast<double>(reach) * static_cast<double>(std::abs(s.row_bytes)) < 1e9;
}

FR_AVX512 inline __mmask16 lanes_of(int count, int start) {
  const int rest = count - start;
  return static_cast<__mmask16>(rest >= 16 ? 0xffff : (1 << rest) - 1);
}

// 16 pixels: offset of the tap (floor x, floor y), and the fractions.
struct Group {
  __mmask16 lanes;
  __m512i offset;
  __m512 fx, fy;
};

FR_AVX512 inline __m512i floor_of(__m512 v, __m512& fraction) {
  const __m512 whole = _mm512_roundscale_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  fraction = _mm512_sub_ps(v, whole);
  return _mm512_cvttps_epi32(whole);
}

FR_AVX512 inline Group group_at(const Source& s, const Positions& p, int start, int pixel_bytes, float half) {
  Group g;
  g.lanes = lanes_of(p.count, start);
  const __m512 bias = _mm512_set1_ps(half);
  const __m512i ix = floor_of(_mm512_add_ps(_mm512_load_ps(p.x + start), bias), g.fx);
  const __m512i iy = floor_of(_mm512_add_ps(_mm512_load_ps(p.y + start), bias), g.fy);
  g.offset = _mm512_add_epi32(_mm512_mullo_epi32(iy, _mm512_set1_epi32(static_cast<int>(s.row_bytes))),
                              _mm512_mullo_epi32(ix, _mm512_set1_epi32(pixel_bytes)));
  return g;
}

FR_AVX512 inline __m512i gather(const Group& g, const std::byte* base) {
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), g.lanes, g.offset, base, 1);
}

template <int Shift>
FR_AVX512 inline __m512 byte_at(__m512i v) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(v, Shift), _mm512_set1_epi32(255)));
}

FR_AVX512 inline __m512 linear(__m512 a, __m512 b, __m512 c, __m512 d, const Group& g) {
  const __m512 top = _mm512_fmadd_ps(g.fx, _mm512_sub_ps(b, a), a),
               bottom = _mm512_fmadd_ps(g.fx, _mm512_sub_ps(d, c), c);
  return _mm512_fmadd_ps(g.fy, _mm512_sub_ps(bottom, top), top);
}

FR_AVX512 inline __m512i rounded(__m512 v, float largest) {
  const __m512 clamped = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(largest));
  return _mm512_cvttps_epi32(_mm512_add_ps(clamped, _mm512_set1_ps(0.5f)));
}

FR_AVX512 inline void store_u8(void* out, int start, __mmask16 lanes, __m512i v) {
  _mm_mask_storeu_epi8(static_cast<std::uint8_t*>(out) + start, lanes, _mm512_cvtepi32_epi8(v));
}

// The low three bytes of every lane, next to one another.
FR_AVX512 inline void store_rgb(void* out, int start, __mmask16 lanes, __m512i v) {
  const __m512i drop = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i close = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
  const __m512i packed = _mm512_permutexvar_epi32(close, _mm512_shuffle_epi8(v, drop));
  const int bytes = 3 * __builtin_popcount(lanes);
  _mm512_mask_storeu_epi8(static_cast<std::uint8_t*>(out) + 3 * start, (std::uint64_t{1} << bytes) - 1, packed);
}

FR_AVX512 inline const std::byte* origin_of(const Source& s, const Positions& p, int pixel_bytes) {
  return s.data + p.base_y * s.row_bytes + p.base_x * pixel_bytes;
}

}  // namespace

FR_AVX512 bool linear_u8_gray(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 1);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 1, 0.f);
    const __m512i top = gather(g, origin), bottom = gather(g, origin + s.row_bytes);  // four pixels each, two are used
    const __m512 v = linear(byte_at<0>(top), byte_at<8>(top), byte_at<0>(bottom), byte_at<8>(bottom), g);
    store_u8(out, i, g.lanes, rounded(v, 255.f));
  }
  return true;
}

FR_AVX512 bool linear_u8_rgb(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 3);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 3, 0.f);
    // R G B R' and B R' G' B'
    const __m512i t0 = gather(g, origin), t1 = gather(g, origin + 2);
    const __m512i b0 = gather(g, origin + s.row_bytes), b1 = gather(g, origin + s.row_bytes + 2);
    const __m512 red = linear(byte_at<0>(t0), byte_at<24>(t0), byte_at<0>(b0), byte_at<24>(b0), g);
    const __m512 green = linear(byte_at<8>(t0), byte_at<16>(t1), byte_at<8>(b0), byte_at<16>(b1), g);
    const __m512 blue = linear(byte_at<16>(t0), byte_at<24>(t1), byte_at<16>(b0), byte_at<24>(b1), g);
    const __m512i rg = _mm512_or_si512(rounded(red, 255.f), _mm512_slli_epi32(rounded(green, 255.f), 8));
    store_rgb(out, i, g.lanes, _mm512_or_si512(rg, _mm512_slli_epi32(rounded(blue, 255.f), 16)));
  }
  return true;
}

FR_AVX512 bool linear_u16_gray(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 2);
  const __m512i low = _mm512_set1_epi32(65535);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 2, 0.f);
    const __m512i top = gather(g, origin), bottom = gather(g, origin + s.row_bytes);
    const __m512 v =
        linear(_mm512_cvtepi32_ps(_mm512_and_si512(top, low)), _mm512_cvtepi32_ps(_mm512_srli_epi32(top, 16)),
               _mm512_cvtepi32_ps(_mm512_and_si512(bottom, low)), _mm512_cvtepi32_ps(_mm512_srli_epi32(bottom, 16)), g);
    _mm256_mask_storeu_epi16(static_cast<std::uint16_t*>(out) + i, g.lanes, _mm512_cvtepi32_epi16(rounded(v, 65535.f)));
  }
  return true;
}

FR_AVX512 bool linear_f32_gray(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 4);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 4, 0.f);
    const __m512 a = _mm512_castsi512_ps(gather(g, origin)), b = _mm512_castsi512_ps(gather(g, origin + 4));
    const __m512 c = _mm512_castsi512_ps(gather(g, origin + s.row_bytes));
    const __m512 d = _mm512_castsi512_ps(gather(g, origin + s.row_bytes + 4));
    _mm512_mask_storeu_ps(static_cast<float*>(out) + i, g.lanes, linear(a, b, c, d, g));
  }
  return true;
}

FR_AVX512 bool nearest_u8_gray(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 1);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 1, 0.5f);
    store_u8(out, i, g.lanes, gather(g, origin));
  }
  return true;
}

FR_AVX512 bool nearest_u8_rgb(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 3);
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 3, 0.5f);
    store_rgb(out, i, g.lanes, gather(g, origin));
  }
  return true;
}

namespace {

FR_AVX512 inline __m512 cubic_near(__m512 d) {
  const __m512 inner = _mm512_fmadd_ps(_mm512_set1_ps(1.25f), d, _mm512_set1_ps(-2.25f));
  return _mm512_fmadd_ps(inner, _mm512_mul_ps(d, d), _mm512_set1_ps(1.f));
}
FR_AVX512 inline __m512 cubic_far(__m512 d) {
  __m512 v = _mm512_fmadd_ps(_mm512_set1_ps(-0.75f), d, _mm512_set1_ps(3.75f));
  v = _mm512_fmadd_ps(v, d, _mm512_set1_ps(-6.f));
  return _mm512_fmadd_ps(v, d, _mm512_set1_ps(3.f));
}
struct Cubic {
  __m512 w[4];
};
FR_AVX512 inline Cubic cubic_of(__m512 f) {
  const __m512 one = _mm512_set1_ps(1.f), two = _mm512_set1_ps(2.f);
  return {{cubic_far(_mm512_add_ps(one, f)), cubic_near(f), cubic_near(_mm512_sub_ps(one, f)),
           cubic_far(_mm512_sub_ps(two, f))}};
}
FR_AVX512 inline __m512 cubic_sum(const Cubic& c, __m512 p0, __m512 p1, __m512 p2, __m512 p3) {
  const __m512 v = _mm512_fmadd_ps(c.w[2], p2, _mm512_fmadd_ps(c.w[1], p1, _mm512_mul_ps(c.w[0], p0)));
  return _mm512_fmadd_ps(c.w[3], p3, v);
}

}  // namespace

FR_AVX512 bool cubic_u8_gray(const Source& s, const Positions& p, void* out) {
  if (!offsets_fit(s, p)) return false;
  const std::byte* origin = origin_of(s, p, 1) - s.row_bytes - 1;
  for (int i = 0; i < p.count; i += 16) {
    const Group g = group_at(s, p, i, 1, 0.f);
    const Cubic across = cubic_of(g.fx), down = cubic_of(g.fy);
    __m512 rows[4];
    for (int j = 0; j < 4; ++j) {
      const __m512i taps = gather(g, origin + j * s.row_bytes);
      rows[j] = cubic_sum(across, byte_at<0>(taps), byte_at<8>(taps), byte_at<16>(taps), byte_at<24>(taps));
    }
    store_u8(out, i, g.lanes, rounded(cubic_sum(down, rows[0], rows[1], rows[2], rows[3]), 255.f));
  }
  return true;
}

}  // namespace fastretina::warp_kernels::avx512
#endif
