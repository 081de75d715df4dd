// The room `image` on the device. The host cannot see pixels here: where a float32 image is not within [0, 1], the
// contrast is NaN (there is no exception), and the plane means nothing.
#include <algorithm>

#include "core/device.h"
#include "image/image_device.h"
#include "image/image_math.h"
#include "image/image_steps.h"

namespace fastretina::cuda {
namespace {

using namespace image_math;

constexpr int kThreads = 256;
const dim3 kBlock(32, 8);

template <class T>
__device__ const T* row_of(const Image& image, int y) {
  return reinterpret_cast<const T*>(static_cast<const std::byte*>(image.data) + y * image.row_bytes);
}

// --- what the plane is made of ----------------------------------------------------------------------------------
// Maxima as bit patterns: those of values >= 0 have the values' order.
struct Facts {
  unsigned green, luma, largest, outside;
};

template <class T>
__global__ void __launch_bounds__(kThreads) facts_kernel(Image image, Facts* facts) {
  float green = 0, luminance = 0, largest = 0;
  bool outside = false;
  for (int y = static_cast<int>(blockIdx.x); y < image.height; y += static_cast<int>(gridDim.x))
    for (int x = static_cast<int>(threadIdx.x); x < image.width; x += kThreads) {
      const T* p = row_of<T>(image, y) + x * image.channels;
      for (int c = 0; c < image.channels; ++c) {
        const auto v = static_cast<float>(p[c]);
        largest = v > largest ? v : largest;
        if (sizeof(T) == sizeof(float)) outside |= !(v >= -kTolerance && v <= 1 + kTolerance);
      }
      if (image.channels == 1) continue;
      const auto g = static_cast<float>(p[1]);
      const float l = luma(static_cast<float>(p[0]), g, static_cast<float>(p[2]));
      green = g > green ? g : green;
      luminance = l > luminance ? l : luminance;
    }
  for (int mask = 16; mask > 0; mask /= 2) {
    const float g = __shfl_xor_sync(kAllLanes, green, mask), l = __shfl_xor_sync(kAllLanes, luminance, mask);
    const float most = __shfl_xor_sync(kAllLanes, largest, mask);
    green = g > green ? g : green, luminance = l > luminance ? l : luminance, largest = most > largest ? most : largest;
  }
  const bool any = __any_sync(kAllLanes, outside);
  if (threadIdx.x % 32 != 0) return;
  atomicMax(&facts->green, __float_as_uint(green));
  atomicMax(&facts->luma, __float_as_uint(luminance));
  atomicMax(&facts->largest, __float_as_uint(largest));
  if (any) atomicMax(&facts->outside, 1u);
}

// --- scale ------------------------------------------------------------------------------------------------------
struct Taps {
  Axis axis;
  int count = 0, out = 0;
  int* first = nullptr;
  float* weights = nullptr;  // count x out
};

__global__ void taps_kernel(Taps across, Taps down) {
  const Taps& taps = blockIdx.y == 0 ? across : down;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < taps.out) taps.first[i] = taps.axis.weigh(i, taps.weights + i, taps.out);
}

template <class T>
__global__ void resize_kernel(Image image, const Facts* facts, Taps across, Taps down, View<float> out) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= out.width || y >= out.height) return;
  const bool rgb = image.channels == 3;
  const bool by_luma = rgb && green_is_empty(__uint_as_float(facts->green), __uint_as_float(facts->luma));
  float sum = 0;
  for (int t = 0; t < across.count; ++t) {
    const int u = across.first[x] + t;
    float column = 0;
    for (int k = 0; k < down.count; ++k) {
      const float w = down.weights[k * down.out + y];
      if (w == 0.f) continue;
      const T* p = row_of<T>(image, down.first[y] + k) + u * image.channels;
      const float v = by_luma ? luma(static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]))
                              : static_cast<float>(p[rgb ? 1 : 0]);
      column = fmaf(w, v, column);
    }
    sum = fmaf(across.weights[t * across.out + x], column, sum);
  }
  const float unit = sizeof(T) == 1   ? 1.f / 255.f
                     : sizeof(T) == 2 ? 1.f / u16_range(static_cast<std::uint16_t>(__uint_as_float(facts->largest)))
                                      : 1.f;
  out.row(y)[x] = unit_range(unit * sum);
}

template <class T>
void resize_typed(const Context& context, const Image& input, Facts* facts, const Taps& across, const Taps& down,
                  View<float> out) {
  if (sizeof(T) > 1 || input.channels == 3)
    launch(context, static_cast<unsigned>(std::min(input.height, 1024)), kThreads, facts_kernel<T>, input, facts);
  launch(context, {blocks_for(out.width, 32), blocks_for(out.height, 8)}, kBlock, resize_kernel<T>, input, facts,
         across, down, out);
}

Taps take_taps(Workspace& workspace, const Axis& axis, int out) {
  Taps taps{axis, axis.taps(), out, workspace.take<int>(static_cast<std::size_t>(out)), nullptr};
  taps.weights = workspace.take<float>(static_cast<std::size_t>(out) * static_cast<std::size_t>(taps.count));
  return taps;
}

// Steps 1 and 2.
void resize(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
            const ImageOptions& options, Facts* facts, View<float> out) {
  const Workspace::Frame frame(workspace);
  const int longer = std::max(input.width, input.height);
  const Taps across = take_taps(workspace, {input.width, longer, options.working_size}, geometry.content.width);
  const Taps down = take_taps(workspace, {input.height, longer, options.working_size}, geometry.content.height);
  fill(context, facts, 0, sizeof(Facts));
  launch(context, {blocks_for(std::max(across.out, down.out), kThreads), 2}, kThreads, taps_kernel, across, down);
  if (input.type == PixelType::u8) resize_typed<std::uint8_t>(context, input, facts, across, down, out);
  if (input.type == PixelType::u16) resize_typed<std::uint16_t>(context, input, facts, across, down, out);
  if (input.type == PixelType::f32) resize_typed<float>(context, input, facts, across, down, out);
}

// --- normalise --------------------------------------------------------------------------------------------------
struct RowSums {
  double* intensity;  // over the mask, a number a row
  int* count;
};

__global__ void row_sums_kernel(View<const float> plane, View<const std::uint8_t> mask, RowSums sums) {
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  const int y = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kRowLanes;
  float s = 0, seen = 0;
  if (y < plane.height)
    for (int x = lane; x < plane.width; x += kRowLanes) {
      s += mask.row(y)[x] ? plane.row(y)[x] : 0.f;
      seen += static_cast<float>(mask.row(y)[x]);
    }
  const double row = row_sum(s), count = row_sum(seen);
  if (lane == 0 && y < plane.height) sums.intensity[y] = row, sums.count[y] = static_cast<int>(count);
}

struct Cells {
  View<float> sum[3];    // of m, m (I - shift), m (I - shift)^2 over cells of 4 x 4 pixels
  View<float> mean, sd;  // over the window around a cell
  float* shift;
};

// Cell = (c0 + c1) + (c2 + c3) of column sums, a column = rows added downwards.
__global__ void __launch_bounds__(kThreads)
    cell_sums_kernel(View<const float> plane, View<const std::uint8_t> mask, RowSums rows, Cells cells) {
  const double total = block_total<kThreads>(rows.intensity, plane.height);
  const int count = block_total<kThreads>(rows.count, plane.height);
  const float shift = count > 0 ? static_cast<float>(total / static_cast<double>(count)) : 0.f;
  const int at = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (at == 0) *cells.shift = shift;
  if (at >= cells.mean.width * cells.mean.height) return;
  const int cx = at % cells.mean.width, cy = at / cells.mean.width;
  float c[3][kCell] = {};
  for (int k = 0; k < kCell && kCell * cx + k < plane.width; ++k)
    for (int r = 0; r < kCell && kCell * cy + r < plane.height; ++r) {
      const std::uint8_t m = mask.row(kCell * cy + r)[kCell * cx + k];
      const float d = m ? plane.row(kCell * cy + r)[kCell * cx + k] - shift : 0.f;
      c[0][k] += static_cast<float>(m);
      c[1][k] += d;
      c[2][k] = fmaf(d, d, c[2][k]);
    }
  for (int s = 0; s < 3; ++s) cells.sum[s].row(cy)[cx] = (c[s][0] + c[s][1]) + (c[s][2] + c[s][3]);
}

// Two 7 x 7 box sums of a tile of cells in shared memory, then mean and deviation. Cells outside are 0 before either.
constexpr int kTile = 32, kReach = 2 * kBoxRadius, kWide = kTile + 2 * kReach;

__device__ void box_pass(float (&from)[kWide][kWide + 1], float (&to)[kWide][kWide + 1], bool down, int x0, int y0,
                         int width, int height) {
  for (int i = static_cast<int>(threadIdx.x); i < kWide * kWide; i += kThreads) {
    const int x = i % kWide, y = i / kWide, along = down ? y : x;
    const bool reaches = along >= kBoxRadius && along < kWide - kBoxRadius;
    const bool inside = x0 + x >= 0 && y0 + y >= 0 && x0 + x < width && y0 + y < height;
    float sum = 0;
    if (reaches && inside) {
      sum = down ? from[y - kBoxRadius][x] : from[y][x - kBoxRadius];
      for (int k = 1 - kBoxRadius; k <= kBoxRadius; ++k) sum += down ? from[y + k][x] : from[y][x + k];
    }
    to[y][x] = sum;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) statistics_kernel(Cells cells) {
  __shared__ float a[kWide][kWide + 1], b[kWide][kWide + 1];
  constexpr int kOwn = kTile * kTile / kThreads;
  const int width = cells.mean.width, height = cells.mean.height, t = static_cast<int>(threadIdx.x);
  const int x0 = static_cast<int>(blockIdx.x) * kTile - kReach, y0 = static_cast<int>(blockIdx.y) * kTile - kReach;
  float window[3][kOwn];
  for (int s = 0; s < 3; ++s) {
    for (int i = t; i < kWide * kWide; i += kThreads) {
      const int x = x0 + i % kWide, y = y0 + i / kWide;
      a[i / kWide][i % kWide] = x >= 0 && y >= 0 && x < width && y < height ? cells.sum[s].row(y)[x] : 0.f;
    }
    __syncthreads();
    for (int pass = 0; pass < 2; ++pass) {
      box_pass(a, b, false, x0, y0, width, height);
      box_pass(b, a, true, x0, y0, width, height);
    }
    for (int k = 0; k < kOwn; ++k) {
      const int i = t + k * kThreads;
      window[s][k] = a[kReach + i / kTile][kReach + i % kTile];
    }
    __syncthreads();
  }
  for (int k = 0; k < kOwn; ++k) {
    const int i = t + k * kThreads, x = x0 + kReach + i % kTile, y = y0 + kReach + i / kTile;
    if (x >= width || y >= height) continue;
    const bool seen = window[0][k] > 0;
    const float n = seen ? window[0][k] : 1.f;
    cells.mean.row(y)[x] = seen ? window[1][k] / n + *cells.shift : 0.f;
    cells.sd.row(y)[x] = seen ? deviation(n, window[1][k], window[2][k]) : 0.f;
  }
}

// The mean deviation over the cells that hold pixels of the mask, by one block.
__global__ void __launch_bounds__(kThreads)
    contrast_kernel(Cells cells, const Facts* facts, float* global_sd, float* contrast) {
  constexpr int kRows = kThreads / kRowLanes;
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  double total = 0;
  int seen = 0;
  for (int y0 = 0; y0 < cells.sd.height; y0 += kRows) {
    const int y = y0 + static_cast<int>(threadIdx.x) / kRowLanes;
    float sum = 0;
    for (int x = lane; y < cells.sd.height && x < cells.sd.width; x += kRowLanes) {
      const bool own = cells.sum[0].row(y)[x] > 0;
      sum += own ? cells.sd.row(y)[x] : 0.f;
      seen += own;
    }
    const double row = row_sum(sum);
    total += lane == 0 ? row : 0.0;
  }
  total = block_sum<kThreads>(total);
  seen = block_sum<kThreads>(seen);
  if (threadIdx.x != 0) return;
  *global_sd = seen > 0 ? static_cast<float>(total / static_cast<double>(seen)) : 0.f;
  if (contrast) *contrast = facts->outside ? NAN : *global_sd;
}

__device__ float at_pixel(const View<float>& cells, int x, int row) {
  const int c = x / kCell, phase = x % kCell, other = phase < 2 ? max(c - 1, 0) : min(c + 1, cells.width - 1);
  const float* r = cells.row(row);
  return phase < 2 ? lerp(r[other], r[c], phase == 0 ? 0.625f : 0.875f)
                   : lerp(r[c], r[other], phase == 2 ? 0.125f : 0.375f);
}

// Steps 4 and 5: rows 4 j - 2 ... 4 j + 1 lie between the centres of cell rows j - 1 and j.
__global__ void normalise_kernel(View<const float> intensity, Cells cells, const float* global_sd, float clip,
                                 NetworkImage out) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= out.plane.width || y >= out.plane.height) return;
  const bool content = x < intensity.width && y < intensity.height;
  if (!content) out.mask.row(y)[x] = 0;
  if (content && !out.gray.empty()) out.gray.row(y)[x] = intensity.row(y)[x];
  float value = 0;
  if (content && out.mask.row(y)[x]) {
    const int j = (y + kCell / 2) / kCell, above = max(j - 1, 0), below = min(j, cells.mean.height - 1);
    const float f = 0.125f + 0.25f * static_cast<float>((y + kCell / 2) % kCell);
    const float mean = lerp(at_pixel(cells.mean, x, above), at_pixel(cells.mean, x, below), f);
    const float sd = lerp(at_pixel(cells.sd, x, above), at_pixel(cells.sd, x, below), f);
    value = normalised(intensity.row(y)[x], mean, sd, kGlobalPart * *global_sd + kFloor, clip);
  }
  out.plane.row(y)[x] = value;
}

}  // namespace

void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output) {
  image_steps::check_shape(input, geometry, options);
  const Workspace::Frame frame(workspace);
  const auto [width, height] = geometry.content;
  const auto rows = static_cast<std::size_t>(height);
  Facts* facts = workspace.take<Facts>(1);
  float* global_sd = workspace.take<float>(1);
  const View<float> intensity = workspace.take_plane<float>(width, height);
  const RowSums sums{workspace.take<double>(rows), workspace.take<int>(rows)};
  Cells cells;
  for (View<float>* plane : {&cells.sum[0], &cells.sum[1], &cells.sum[2], &cells.mean, &cells.sd})
    *plane = workspace.take_plane<float>((width + kCell - 1) / kCell, (height + kCell - 1) / kCell);
  cells.shift = workspace.take<float>(1);
  const View<const std::uint8_t> mask(output.mask.data, width, height, output.mask.stride);

  resize(context, workspace, input, geometry, options, facts, intensity);
  field_of_view(context, workspace, intensity, options, output.mask);
  launch(context, blocks_for(height, kThreads / kRowLanes), kThreads, row_sums_kernel, intensity, mask, sums);
  launch(context, blocks_for(std::int64_t{cells.mean.width} * cells.mean.height, kThreads), kThreads, cell_sums_kernel,
         intensity, mask, sums, cells);
  launch(context, {blocks_for(cells.mean.width, kTile), blocks_for(cells.mean.height, kTile)}, kThreads,
         statistics_kernel, cells);
  launch(context, 1, kThreads, contrast_kernel, cells, facts, global_sd, output.contrast);
  launch(context, {blocks_for(output.plane.width, 32), blocks_for(output.plane.height, 8)}, kBlock, normalise_kernel,
         intensity, cells, global_sd, options.clip, output);
}

void gray(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
          const ImageOptions& options, View<float> output) {
  image_steps::check_shape(input, geometry, options);
  const Workspace::Frame frame(workspace);
  resize(context, workspace, input, geometry, options, workspace.take<Facts>(1), output);
}

}  // namespace fastretina::cuda
