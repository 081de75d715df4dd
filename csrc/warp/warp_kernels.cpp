#include "warp/warp_kernels.h"

#include <algorithm>

#include "core/target.h"

namespace fastretina::warp_kernels {

using namespace warp_math;

namespace {

FR_INLINE void matrix_positions_body(const MatrixSpan& span, Positions& p) {
  for (int i = 0; i < kSpan; ++i) {
    const float t = matrix_step(span, i);
    p.x[i] = std::fmaf(t, span.ax, span.x0);
    p.y[i] = std::fmaf(t, span.ay, span.y0);
  }
}

FR_INLINE void quadratic_positions_body(const QuadraticSpan& span, Positions& p, float* worst) {
  float steps[kSpan];
  for (int i = 0; i < kSpan; ++i) {
    float dx, dy, step = 0;
    quadratic_step(span, i, dx, dy, step);
    p.x[i] = span.x0 + dx;
    p.y[i] = span.y0 + dy;
    steps[i] = step;
  }
  float largest = 0;
  for (int i = 0; i < kSpan; ++i) largest = steps[i] > largest ? steps[i] : largest;
  *worst = largest;
}

FR_INLINE void count_positions_body(const Positions& p, const Bounds& frame, const Bounds& interior, Counts* counts) {
  int inside = 0, all = 0;
  for (int i = 0; i < p.count; ++i) {
    inside += within(frame, p.x[i], p.y[i]) ? 1 : 0;
    all += within(interior, p.x[i], p.y[i]) ? 1 : 0;
  }
  counts->inside = inside;
  counts->interior = all;
}

template <class T, Interpolation I>
FR_INLINE void interior_body(const Source& s, const Positions& p, void* out) {
  const std::ptrdiff_t pixel = static_cast<std::ptrdiff_t>(s.channels) * static_cast<std::ptrdiff_t>(sizeof(T));
  const std::byte* origin = s.data + p.base_y * s.row_bytes + p.base_x * pixel;
  for (int i = 0; i < p.count; ++i)
    sample<T, I>(p.x[i], p.y[i], s.channels, static_cast<T*>(out) + static_cast<std::ptrdiff_t>(i) * s.channels,
                 [&](int x, int y)
                     FR_LAMBDA_INLINE { return reinterpret_cast<const T*>(origin + y * s.row_bytes + x * pixel); });
}

template <class T, Interpolation I>
FR_INLINE void checked_body(const Source& s, const Positions& p, const Bounds& frame, void* out, std::uint8_t* valid) {
  const std::ptrdiff_t pixel = static_cast<std::ptrdiff_t>(s.channels) * static_cast<std::ptrdiff_t>(sizeof(T));
  for (int i = 0; i < p.count; ++i) {
    T* to = static_cast<T*>(out) + static_cast<std::ptrdiff_t>(i) * s.channels;
    valid[i] = within(frame, p.x[i], p.y[i]) ? 1 : 0;
    if (!valid[i]) {
      for (int c = 0; c < s.channels; ++c) to[c] = 0;
      continue;
    }
    sample<T, I>(p.x[i], p.y[i], s.channels, to, [&](int x, int y) FR_LAMBDA_INLINE {
      const std::int64_t cx = std::clamp<std::int64_t>(p.base_x + x, 0, s.width - 1);
      const std::int64_t cy = std::clamp<std::int64_t>(p.base_y + y, 0, s.height - 1);
      return reinterpret_cast<const T*>(s.data + cy * s.row_bytes + cx * pixel);
    });
  }
}

}  // namespace

FR_DISPATCH(matrix_positions, (const MatrixSpan& span, Positions& positions), (span, positions))
FR_DISPATCH(quadratic_positions, (const QuadraticSpan& span, Positions& positions, float* worst),
            (span, positions, worst))
FR_DISPATCH(count_positions, (const Positions& positions, const Bounds& frame, const Bounds& interior, Counts* counts),
            (positions, frame, interior, counts))

// A sampler of one type and interpolation: interior_NAME and checked_NAME at every level.
#define FR_SAMPLER(name, T, I)                                                                              \
  namespace {                                                                                               \
  FR_INLINE void interior_##name##_body(const Source& s, const Positions& p, void* out) {                   \
    interior_body<T, Interpolation::I>(s, p, out);                                                          \
  }                                                                                                         \
  FR_INLINE void checked_##name##_body(const Source& s, const Positions& p, const Bounds& frame, void* out, \
                                       std::uint8_t* valid) {                                               \
    checked_body<T, Interpolation::I>(s, p, frame, out, valid);                                             \
  }                                                                                                         \
  FR_DISPATCH(interior_##name, (const Source& s, const Positions& p, void* out), (s, p, out))               \
  FR_DISPATCH(checked_##name,                                                                               \
              (const Source& s, const Positions& p, const Bounds& frame, void* out, std::uint8_t* valid),   \
              (s, p, frame, out, valid))                                                                    \
  }

FR_SAMPLER(nearest_u8, std::uint8_t, nearest)
FR_SAMPLER(nearest_u16, std::uint16_t, nearest)
FR_SAMPLER(nearest_f32, float, nearest)
FR_SAMPLER(linear_u8, std::uint8_t, linear)
FR_SAMPLER(linear_u16, std::uint16_t, linear)
FR_SAMPLER(linear_f32, float, linear)
FR_SAMPLER(cubic_u8, std::uint8_t, cubic)
FR_SAMPLER(cubic_u16, std::uint16_t, cubic)
FR_SAMPLER(cubic_f32, float, cubic)

Sampler choose_sampler(PixelType type, int channels, Interpolation interpolation) {
  static constexpr Sampler kSamplers[3][3] = {
      {{interior_nearest_u8, checked_nearest_u8, nullptr, 0, 1, 0},
       {interior_nearest_u16, checked_nearest_u16, nullptr, 0, 1, 0},
       {interior_nearest_f32, checked_nearest_f32, nullptr, 0, 1, 0}},
      {{interior_linear_u8, checked_linear_u8, nullptr, 0, 1, 0},
       {interior_linear_u16, checked_linear_u16, nullptr, 0, 1, 0},
       {interior_linear_f32, checked_linear_f32, nullptr, 0, 1, 0}},
      {{interior_cubic_u8, checked_cubic_u8, nullptr, 1, 2, 0},
       {interior_cubic_u16, checked_cubic_u16, nullptr, 1, 2, 0},
       {interior_cubic_f32, checked_cubic_f32, nullptr, 1, 2, 0}},
  };
  Sampler sampler = kSamplers[static_cast<int>(interpolation)][static_cast<int>(type)];
#if FR_X86
  if (simd_level() < SimdLevel::avx512) return sampler;
  using enum PixelType;
  using enum Interpolation;
  const auto fast = [&](PixelType t, int c, Interpolation i, SampleFast f, int slack) {
    if (type == t && channels == c && interpolation == i) sampler.fast = f, sampler.slack = slack;
  };
  fast(u8, 1, nearest, avx512::nearest_u8_gray, 3);
  fast(u8, 3, nearest, avx512::nearest_u8_rgb, 1);
  fast(u8, 1, linear, avx512::linear_u8_gray, 2);
  fast(u8, 3, linear, avx512::linear_u8_rgb, 0);
  fast(u16, 1, linear, avx512::linear_u16_gray, 0);
  fast(f32, 1, linear, avx512::linear_f32_gray, 0);
  fast(u8, 1, cubic, avx512::cubic_u8_gray, 0);
#else
  (void)channels;
#endif
  return sampler;
}

}  // namespace fastretina::warp_kernels
