// The inner loops of the room `warp`, dispatched by SIMD level. Internal.
#pragma once

#include <cstdint>

#include "warp/warp_math.h"

namespace fastretina::warp_kernels {

using warp_math::Bounds;

// Source positions of a span's pixels, relative to an integer base. NaN: there is none.
struct Positions {
  std::int64_t base_x = 0, base_y = 0;
  int count = 0;
  alignas(64) float x[warp_math::kSpan];
  alignas(64) float y[warp_math::kSpan];
};

void matrix_positions(const warp_math::MatrixSpan& span, Positions& positions);
// `worst`: the largest Newton step (warp_math::quadratic_step).
void quadratic_positions(const warp_math::QuadraticSpan& span, Positions& positions, float* worst);

struct Counts {
  int inside = 0;    // positions inside the frame
  int interior = 0;  // positions whose taps all are
};
void count_positions(const Positions& positions, const Bounds& frame, const Bounds& interior, Counts* counts);

struct Source {
  const std::byte* data;
  int width, height, channels;
  std::ptrdiff_t row_bytes;
};

// Samples of positions whose taps are all inside the image.
using SampleInterior = void (*)(const Source& source, const Positions& positions, void* out);
// Any positions: those outside `frame` give 0. valid (count bytes) is written.
using SampleChecked = void (*)(const Source& source, const Positions& positions, const Bounds& frame, void* out,
                               std::uint8_t* valid);

using SampleFast = bool (*)(const Source& source, const Positions& positions, void* out);

struct Sampler {
  SampleInterior interior;
  SampleChecked checked;
  SampleFast fast;  // instead of `interior`, where not NULL and where it returns true
  // The taps of position p: floor(p) - before ... floor(p) + after, plus pixels that are read but not used.
  int before, after, slack;
};
Sampler choose_sampler(PixelType type, int channels, Interpolation interpolation);

// Vector versions of the common cases: the same bits. false: nothing was done, offsets need more than 32 bits.
namespace avx512 {
bool linear_u8_gray(const Source& source, const Positions& positions, void* out);
bool linear_u8_rgb(const Source& source, const Positions& positions, void* out);
bool linear_u16_gray(const Source& source, const Positions& positions, void* out);
bool linear_f32_gray(const Source& source, const Positions& positions, void* out);
bool nearest_u8_gray(const Source& source, const Positions& positions, void* out);
bool nearest_u8_rgb(const Source& source, const Positions& positions, void* out);
bool cubic_u8_gray(const Source& source, const Positions& positions, void* out);
}  // namespace avx512

}  // namespace fastretina::warp_kernels
