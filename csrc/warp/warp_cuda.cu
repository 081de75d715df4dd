// The room `warp` on the device: a block a span of an output row, a thread a pixel. The transform lies on the device;
// one that has no inverse, which the host cannot see, leaves nothing valid.
#include "core/cuda.h"
#include "warp/warp_check.h"
#include "warp/warp_math.h"

namespace fastretina::cuda {
namespace {

using namespace warp_math;

struct Setup {
  Inverse inverse;
  bool exists;
};

__global__ void invert_kernel(const Deformation* map, Size moving, Setup* setup) {
  setup->exists = invert(moving, *map, setup->inverse) == nullptr;
}

struct Position {
  std::int64_t base_x = 0, base_y = 0;
  float x = NAN, y = NAN;  // NaN: there is none
};

__device__ Position relative(bool found, Point q, bool to_floor) {
  Position p;
  if (!found) return p;
  if (to_floor)
    p.base_x = static_cast<std::int64_t>(std::floor(q.x)), p.base_y = static_cast<std::int64_t>(std::floor(q.y));
  p.x = static_cast<float>(q.x - static_cast<double>(p.base_x)),
  p.y = static_cast<float>(q.y - static_cast<double>(p.base_y));
  return p;
}

// Of pixel i of the span that begins at (x, y). All threads of a block call it.
__device__ Position locate(const Inverse& inverse, int x, int y, int i) {
  const Point target{static_cast<double>(x + i), static_cast<double>(y)};
  Point q;
  if (!inverse.field.empty()) {
    Point d = displacement(inverse.field, target);
    const bool placed = solve_field(inverse.field, target, d);
    const Point s{target.x - d.x, target.y - d.y};
    return relative(placed && undo_base(inverse, s, inverse.linear(s), q), q, true);
  }
  __shared__ MatrixSpan matrix;
  __shared__ QuadraticSpan quadratic;
  __shared__ bool regular;
  if (i == 0) {
    const Point first{static_cast<double>(x), static_cast<double>(y)};
    if (inverse.quadratic) {
      regular = undo_base(inverse, first, inverse.linear(first), q) && quadratic_span(inverse.forward, q, quadratic);
    } else {
      matrix = matrix_span(inverse.matrix, first.x, first.y, inverse.projective);
      regular = matrix.regular;
    }
  }
  __syncthreads();
  Position p;
  if (regular && inverse.quadratic) {
    float dx, dy, worst = 0;
    quadratic_step(quadratic, i, dx, dy, worst);
    if (!__syncthreads_or(worst > kLargestStep)) {
      p.base_x = quadratic.base_x, p.base_y = quadratic.base_y;
      p.x = quadratic.x0 + dx, p.y = quadratic.y0 + dy;
      return p;
    }
  } else if (regular) {
    const float t = matrix_step(matrix, i);
    p.base_x = matrix.base_x, p.base_y = matrix.base_y;
    p.x = fmaf(t, matrix.ax, matrix.x0), p.y = fmaf(t, matrix.ay, matrix.y0);
    return p;
  }
  return relative(undo_base(inverse, target, inverse.linear(target), q), q, false);
}

template <class T, Interpolation I>
__global__ void __launch_bounds__(kSpan)
    warp_kernel(Image moving, const Setup* setup, MutableImage out, View<std::uint8_t> valid) {
  const int i = static_cast<int>(threadIdx.x), x = static_cast<int>(blockIdx.x) * kSpan,
            y = static_cast<int>(blockIdx.y);
  Position p;
  if (setup->exists) p = locate(setup->inverse, x, y, i);
  if (x + i >= out.width) return;
  T* to = reinterpret_cast<T*>(static_cast<std::byte*>(out.data) + y * out.row_bytes) +
          static_cast<std::ptrdiff_t>(x + i) * out.channels;
  const bool seen = within(frame_bounds({moving.width, moving.height}, p.base_x, p.base_y), p.x, p.y);
  if (!valid.empty()) valid.row(y)[x + i] = seen;
  if (!seen) {
    for (int c = 0; c < out.channels; ++c) to[c] = 0;
    return;
  }
  const auto clamped = [](std::int64_t at, int size) { return at < 0 ? 0 : at < size ? at : std::int64_t{size - 1}; };
  sample<T, I>(p.x, p.y, moving.channels, to, [&](int u, int v) {
    const auto* row =
        static_cast<const std::byte*>(moving.data) + clamped(p.base_y + v, moving.height) * moving.row_bytes;
    return reinterpret_cast<const T*>(row) + clamped(p.base_x + u, moving.width) * moving.channels;
  });
}

template <class T>
void warp_typed(const Context& context, const Image& moving, const Setup* setup, Interpolation interpolation,
                const MutableImage& out, View<std::uint8_t> valid) {
  const auto kernel = interpolation == Interpolation::nearest  ? warp_kernel<T, Interpolation::nearest>
                      : interpolation == Interpolation::linear ? warp_kernel<T, Interpolation::linear>
                                                               : warp_kernel<T, Interpolation::cubic>;
  launch(context, {blocks_for(out.width, kSpan), static_cast<unsigned>(out.height)}, kSpan, kernel, moving, setup, out,
         valid);
}

}  // namespace

void warp(const Context& context, Workspace& workspace, const Image& moving, const Deformation& T_fixed_moving,
          const WarpOptions& options, const MutableImage& out, View<std::uint8_t> valid) {
  check_warp(moving, options, out, valid);
  const Workspace::Frame frame(workspace);
  Setup* setup = workspace.take<Setup>(1);
  launch(context, 1, 1, invert_kernel, &T_fixed_moving, Size{moving.width, moving.height}, setup);
  if (moving.type == PixelType::u8) warp_typed<std::uint8_t>(context, moving, setup, options.interpolation, out, valid);
  if (moving.type == PixelType::u16)
    warp_typed<std::uint16_t>(context, moving, setup, options.interpolation, out, valid);
  if (moving.type == PixelType::f32) warp_typed<float>(context, moving, setup, options.interpolation, out, valid);
}

}  // namespace fastretina::cuda
