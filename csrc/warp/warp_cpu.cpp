// The room `warp` on the CPU: backward mapping, tile by tile, without maps.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "core/error.h"
#include "warp/warp_check.h"
#include "warp/warp_kernels.h"

namespace fastretina {
namespace cpu {
namespace {

using namespace warp_kernels;
using namespace warp_math;

constexpr int kTileRows = 32;  // a tile is kSpan x kTileRows: its source stays in the cache whatever the rotation

Inverse make_inverse(const Deformation& t, const Image& moving) {
  Inverse inverse;
  const char* fault = invert({moving.width, moving.height}, t, inverse);
  if (fault) throw InvalidArgument("transform", fault, "an invertible transform");
  return inverse;
}

// Pixel by pixel, in double precision, relative to (0, 0).
template <class Solve>
void slow_positions(Positions& p, Solve&& solve) {
  p.base_x = p.base_y = 0;
  for (int i = 0; i < p.count; ++i) {
    Point q;
    const bool found = solve(i, q);
    p.x[i] = found ? static_cast<float>(q.x) : std::numeric_limits<float>::quiet_NaN();
    p.y[i] = found ? static_cast<float>(q.y) : std::numeric_limits<float>::quiet_NaN();
  }
}

void locate_matrix(const Inverse& inverse, int x, int y, Positions& p) {
  const double* m = inverse.matrix;
  const MatrixSpan span = matrix_span(m, x, y, inverse.projective);
  if (span.regular) {
    p.base_x = span.base_x;
    p.base_y = span.base_y;
    matrix_positions(span, p);
    return;
  }
  slow_positions(p, [&](int i, Point& q) {
    return undo_base(inverse, {static_cast<double>(x + i), static_cast<double>(y)}, {}, q);
  });
}

// `guess`: where the span's first pixel probably comes from; becomes the guess of the next span.
void locate_quadratic(const Inverse& inverse, int x, int y, Point& guess, Positions& p) {
  const double orientation = inverse.centre_jacobian.determinant();
  const auto solve = [&](double fx, Point start, Point& q) {
    return solve_quadratic(inverse.forward, {fx, static_cast<double>(y)}, start, orientation, inverse.far, q);
  };
  Point q;
  QuadraticSpan span;
  if (solve(x, guess, q) && quadratic_span(inverse.forward, q, span)) {
    float worst = 0;
    p.base_x = span.base_x;
    p.base_y = span.base_y;
    quadratic_positions(span, p, &worst);
    if (worst <= kLargestStep) {
      constexpr int kLast = kSpan - 1;
      guess = {static_cast<double>(p.base_x) + (2.0 * p.x[kLast] - p.x[kLast - 1]),
               static_cast<double>(p.base_y) + (2.0 * p.y[kLast] - p.y[kLast - 1])};
      return;
    }
  }
  slow_positions(p, [&](int i, Point& s) {
    const Point target{static_cast<double>(x + i), static_cast<double>(y)};
    return solve(target.x, inverse.linear(target), s);
  });
  guess = inverse.linear({static_cast<double>(x + kSpan), static_cast<double>(y)});
}

// Pixel by pixel; the displacements of the last two tell where to look for the next.
void locate_displaced(const Inverse& inverse, int x, int y, Positions& p) {
  Point d = displacement(inverse.field, {static_cast<double>(x), static_cast<double>(y)}), before = d, q;
  bool found = false, based = false;
  p.base_x = p.base_y = 0;
  for (int i = 0; i < p.count; ++i) {
    const Point target{static_cast<double>(x + i), static_cast<double>(y)};
    Point next{2 * d.x - before.x, 2 * d.y - before.y};
    const bool placed = solve_field(inverse.field, target, next);
    before = i == 0 ? next : d;
    d = next;
    const Point s{target.x - d.x, target.y - d.y};
    found = placed && undo_base(inverse, s, found ? q : inverse.linear(s), q);
    if (found && !based) {
      based = true;
      p.base_x = static_cast<std::int64_t>(std::floor(q.x));
      p.base_y = static_cast<std::int64_t>(std::floor(q.y));
    }
    p.x[i] = found ? static_cast<float>(q.x - static_cast<double>(p.base_x)) : std::numeric_limits<float>::quiet_NaN();
    p.y[i] = found ? static_cast<float>(q.y - static_cast<double>(p.base_y)) : std::numeric_limits<float>::quiet_NaN();
  }
}

struct Job {
  Source source;
  Sampler sampler;
  std::size_t pixel_bytes;
};

void sample_span(const Job& job, const Positions& p, std::byte* out, std::uint8_t* valid) {
  const Source& s = job.source;
  const Bounds frame = frame_bounds({s.width, s.height}, p.base_x, p.base_y);
  Bounds interior;
  // A quarter pixel of margin outweighs the rounding of the bounds.
  axis_bounds(job.sampler.before + 0.25, s.width - 1.25 - job.sampler.after - job.sampler.slack, p.base_x,
              interior.low_x, interior.high_x);
  axis_bounds(job.sampler.before + 0.25, s.height - 1.25 - job.sampler.after, p.base_y, interior.low_y,
              interior.high_y);
  Counts counts;
  count_positions(p, frame, interior, &counts);
  const auto n = static_cast<std::size_t>(p.count);
  if (counts.inside == 0) {
    std::memset(out, 0, n * job.pixel_bytes);
    std::memset(valid, 0, n);
  } else if (counts.interior == p.count) {
    if (!job.sampler.fast || !job.sampler.fast(s, p, out)) job.sampler.interior(s, p, out);
    std::memset(valid, 1, n);
  } else {
    job.sampler.checked(s, p, frame, out, valid);
  }
}

std::size_t bytes_of(PixelType type) { return type == PixelType::u8 ? 1 : type == PixelType::u16 ? 2 : 4; }

}  // namespace
}  // namespace cpu

void check_warp(const Image& moving, const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid) {
  require(moving.data != nullptr && moving.width > 0 && moving.height > 0, "moving", "an empty image", "pixels");
  require(moving.channels >= 1 && moving.channels <= 4, "moving", std::to_string(moving.channels) + " channels",
          "1 to 4 channels");
  require(out.data != nullptr && out.width > 0 && out.height > 0, "out", "an empty image", "pixels");
  require(out.channels == moving.channels && out.type == moving.type, "out", "another type or number of channels",
          "those of the moving image");
  require(valid.empty() || (valid.width == out.width && valid.height == out.height), "valid", "another size",
          "the size of out, or an empty view");
  const int i = static_cast<int>(options.interpolation);
  require(i >= 0 && i <= 2, "interpolation", std::to_string(i), "0 (nearest), 1 (linear) or 2 (cubic)");
}

namespace cpu {

void warp(const Context& context, Workspace& workspace, const Image& moving, const Deformation& T_fixed_moving,
          const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid) {
  (void)workspace;
  check_warp(moving, options, out, valid);
  for (const double p : T_fixed_moving.base.p)
    require(std::isfinite(p), "transform", "NaN or infinity", "finite parameters");
  const Inverse inverse = make_inverse(T_fixed_moving, moving);
  const Job job{
      {static_cast<const std::byte*>(moving.data), moving.width, moving.height, moving.channels, moving.row_bytes},
      choose_sampler(moving.type, moving.channels, options.interpolation),
      bytes_of(moving.type) * static_cast<std::size_t>(moving.channels)};

  context.parallel_for(out.height, kTileRows, [&](int begin, int end, int) {
    Positions p;
    std::uint8_t unwanted[kSpan];
    Point guesses[kTileRows];
    for (int y = begin; y < end; ++y) guesses[y - begin] = inverse.linear({0, static_cast<double>(y)});
    for (int x = 0; x < out.width; x += kSpan) {
      p.count = std::min(kSpan, out.width - x);
      for (int y = begin; y < end; ++y) {
        if (!inverse.field.empty())
          locate_displaced(inverse, x, y, p);
        else if (inverse.quadratic)
          locate_quadratic(inverse, x, y, guesses[y - begin], p);
        else
          locate_matrix(inverse, x, y, p);
        std::byte* row = static_cast<std::byte*>(out.data) + y * out.row_bytes;
        sample_span(job, p, row + static_cast<std::size_t>(x) * job.pixel_bytes,
                    valid.empty() ? unwanted : valid.row(y) + x);
      }
    }
  });
}

}  // namespace cpu
}  // namespace fastretina
