// The room `warp` on the CPU: backward mapping, tile by tile, without maps.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "core/error.h"
#include "warp/warp_kernels.h"

namespace fastretina::cpu {
namespace {

using namespace warp_kernels;
using namespace warp_math;

constexpr int kTileRows = 32;  // a tile is kSpan x kTileRows: its source stays in the cache whatever the rotation

// FIXED -> MOVING.
struct Inverse {
  bool quadratic = false, projective = false;
  Field field;  // empty, or undone first
  double matrix[9] = {};
  Transform forward;  // the quadratic's
  Point centre, centre_image;
  Jacobian centre_jacobian;
  double far = 0;

  // The inverse of the map that touches the quadratic in the moving frame's centre.
  Point linear(Point target) const {
    const Jacobian& j = centre_jacobian;
    const double ex = target.x - centre_image.x, ey = target.y - centre_image.y, det = j.determinant();
    return {centre.x + (j.d * ex - j.b * ey) / det, centre.y + (j.a * ey - j.c * ex) / det};
  }
};

Inverse make_inverse(const Transform& t, const Image& moving) {
  Inverse inverse;
  inverse.centre = {0.5 * (moving.width - 1), 0.5 * (moving.height - 1)};
  if (t.kind == TransformKind::quadratic) {
    inverse.quadratic = true;
    inverse.forward = t;
    inverse.centre_image = apply(t, inverse.centre);
    inverse.centre_jacobian = jacobian(t, inverse.centre);
    inverse.far = 4.0 * (static_cast<double>(moving.width) + moving.height);
    const double det = inverse.centre_jacobian.determinant();
    require(std::isfinite(det) && det != 0, "transform", "a quadratic that folds in the moving frame's centre",
            "an invertible transform");
    return inverse;
  }
  Transform back;
  require(fastretina::invert(t, back), "transform", "a singular matrix", "an invertible transform");
  inverse.projective = t.kind == TransformKind::homography;
  // w of the inverse has one sign on the side of the pole where the moving frame's centre is: make it positive.
  double sign = 1;
  if (inverse.projective) {
    const Point c = apply(t, inverse.centre);
    sign = back.p[6] * c.x + back.p[7] * c.y + back.p[8] < 0 ? -1 : 1;
    require(std::isfinite(c.x) && std::isfinite(c.y), "transform",
            "a homography whose pole crosses the moving frame's centre", "an invertible transform");
  }
  for (int i = 0; i < 9; ++i) inverse.matrix[i] = sign * back.p[i];
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
    const double fx = x + i, w = inverse.projective ? m[6] * fx + m[7] * y + m[8] : 1.0;
    q = {(m[0] * fx + m[1] * y + m[2]) / w, (m[3] * fx + m[4] * y + m[5]) / w};
    return w > 0 && std::abs(q.x) < kFarPx && std::abs(q.y) < kFarPx;
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

// A point of FIXED without the field -> MOVING. false: there is none.
bool undo_base(const Inverse& inverse, Point s, Point start, Point& q) {
  if (inverse.quadratic)
    return solve_quadratic(inverse.forward, s, start, inverse.centre_jacobian.determinant(), inverse.far, q);
  const double* m = inverse.matrix;
  const double w = inverse.projective ? m[6] * s.x + m[7] * s.y + m[8] : 1.0;
  q = {(m[0] * s.x + m[1] * s.y + m[2]) / w, (m[3] * s.x + m[4] * s.y + m[5]) / w};
  return w > 0 && std::abs(q.x) < kFarPx && std::abs(q.y) < kFarPx;
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

// low <= p <= high on the pixel axis, seen from the base.
void axis_bounds(double low, double high, std::int64_t base, float& out_low, float& out_high) {
  out_low = static_cast<float>(low - static_cast<double>(base));
  out_high = static_cast<float>(high - static_cast<double>(base));
}

struct Job {
  Source source;
  Sampler sampler;
  std::size_t pixel_bytes;
};

void sample_span(const Job& job, const Positions& p, std::byte* out, std::uint8_t* valid) {
  const Source& s = job.source;
  Bounds frame, interior;
  axis_bounds(-0.5, s.width - 0.5, p.base_x, frame.low_x, frame.high_x);
  axis_bounds(-0.5, s.height - 0.5, p.base_y, frame.low_y, frame.high_y);
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

void check(const Image& moving, const Deformation& t, const WarpOptions& options, const MutableImage& out,
           View<std::uint8_t> valid) {
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
  for (const double p : t.base.p) require(std::isfinite(p), "transform", "NaN or infinity", "finite parameters");
}

}  // namespace

void warp(const Context& context, Workspace& workspace, const Image& moving, const Deformation& T_fixed_moving,
          const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid) {
  (void)workspace;
  check(moving, T_fixed_moving, options, out, valid);
  Inverse inverse = make_inverse(T_fixed_moving.base, moving);
  inverse.field = T_fixed_moving.field;
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

}  // namespace fastretina::cpu
