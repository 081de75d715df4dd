// Steps 1 and 2 of the room `image`: the plane at network scale, streamed over the input's rows. Scratch is a few rows,
// whatever the input's size.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "image/image_kernels.h"
#include "image/image_math.h"
#include "image/image_steps.h"

namespace fastretina::image_steps {
namespace {

using namespace image_kernels;
using namespace image_math;

constexpr int kRowsPerChunk = 16;

const void* row_of(const Image& image, int y) {
  return static_cast<const std::byte*>(image.data) + static_cast<std::ptrdiff_t>(y) * image.row_bytes;
}

std::size_t padded(std::size_t n) { return (n + kRowPad - 1) / kRowPad * kRowPad; }

// --- what the plane is made of ----------------------------------------------------------------------------------
enum class Source { gray, green, luma };

struct Recipe {
  Source source = Source::gray;
  float unit = 1;  // stored value -> [0, 1]
};

// Rows from the middle outwards: a photograph answers in its first rows.
template <class Visit>
void rows_from_middle(int height, Visit&& visit) {
  for (int i = 0; i < height; ++i) {
    const int y = i % 2 ? height / 2 - 1 - i / 2 : height / 2 + i / 2;
    if (y >= 0 && y < height && !visit(y)) return;
  }
}

void green_row(const Image& image, int y, void* out) {
  const void* row = row_of(image, y);
  if (image.type == PixelType::u8)
    green_u8(static_cast<const std::uint8_t*>(row), static_cast<std::uint8_t*>(out), image.width);
  if (image.type == PixelType::u16)
    green_u16(static_cast<const std::uint16_t*>(row), static_cast<std::uint16_t*>(out), image.width);
  if (image.type == PixelType::f32) green_f32(static_cast<const float*>(row), static_cast<float*>(out), image.width);
}

void luma_row(const Image& image, int y, float* out) {
  const void* row = row_of(image, y);
  if (image.type == PixelType::u8) luma_u8(static_cast<const std::uint8_t*>(row), out, image.width);
  if (image.type == PixelType::u16) luma_u16(static_cast<const std::uint16_t*>(row), out, image.width);
  if (image.type == PixelType::f32) luma_f32(static_cast<const float*>(row), out, image.width);
}

float row_maximum(PixelType type, const void* row, int n) {
  if (type == PixelType::u8) {
    std::uint8_t m = 0;
    max_u8(static_cast<const std::uint8_t*>(row), n, &m);
    return m;
  }
  if (type == PixelType::u16) {
    std::uint16_t m = 0;
    max_u16(static_cast<const std::uint16_t*>(row), n, &m);
    return m;
  }
  float m = 0;
  max_f32(static_cast<const float*>(row), n, &m);
  return m;
}

float type_maximum(PixelType type) {
  return type == PixelType::u8 ? 255.f : type == PixelType::u16 ? 65535.f : 1.f + kTolerance;
}

Source choose_source(Workspace& workspace, const Image& image) {
  if (image.channels == 1) return Source::gray;
  Workspace::Frame frame(workspace);
  float* scratch = workspace.take<float>(padded(static_cast<std::size_t>(image.width)));
  float green = 0, luma = 0;
  const float enough = type_maximum(image.type);  // no luma can be larger: green is seen before all is read
  rows_from_middle(image.height, [&](int y) {
    green_row(image, y, scratch);
    green = std::max(green, row_maximum(image.type, scratch, image.width));
    if (!green_is_empty(green, enough)) return false;
    luma_row(image, y, scratch);
    luma = std::max(luma, row_maximum(PixelType::f32, scratch, image.width));
    return true;
  });
  return green_is_empty(green, luma) ? Source::luma : Source::green;
}

float unit_of(const Image& image) {
  if (image.type == PixelType::u8) return 1.f / 255.f;
  if (image.type == PixelType::f32) return 1.f;
  std::uint16_t maximum = 0;
  for (int y = 0; y < image.height && maximum <= 16383; ++y)
    max_u16(static_cast<const std::uint16_t*>(row_of(image, y)), image.width * image.channels, &maximum);
  return 1.f / u16_range(maximum);
}

// --- weights ----------------------------------------------------------------------------------------------------
// Output i = sum over t < count of weights[t * stride + i] * input[first[i] + t].
struct AxisTaps {
  int* first = nullptr;
  float* weights = nullptr;
  int count = 0;
  int stride = 0;
};

AxisTaps make_axis(Workspace& workspace, const Axis& axis, int out) {
  AxisTaps taps;
  taps.count = axis.taps();
  taps.stride = static_cast<int>(padded(static_cast<std::size_t>(out)));
  const auto stride = static_cast<std::size_t>(taps.stride), size = stride * static_cast<std::size_t>(taps.count);
  taps.first = workspace.take<int>(stride);
  taps.weights = workspace.take<float>(size);
  std::fill_n(taps.weights, size, 0.f);
  for (int i = 0; i < out; ++i) taps.first[i] = axis.weigh(i, taps.weights + i, taps.stride);
  for (int i = out; i < taps.stride; ++i) taps.first[i] = taps.first[out - 1];
  return taps;
}

bool is_narrow(const AxisTaps& axis) {
  for (int i = 0; i < axis.stride; i += 16)
    if (axis.first[i + 15] - axis.first[i] + axis.count > 32) return false;
  return true;
}

// --- rows -------------------------------------------------------------------------------------------------------
struct RowScratch {
  float* sums;
  std::byte* rows[4];
};

const void* source_row(const Image& image, Source source, int y, std::byte* scratch) {
  if (source == Source::gray) return row_of(image, y);
  if (source == Source::green)
    green_row(image, y, scratch);
  else
    luma_row(image, y, reinterpret_cast<float*>(scratch));
  return scratch;
}

// The weighted sum of the input rows that make output row i.
void sum_rows(const Image& image, Source source, const AxisTaps& axis, int i, const RowScratch& scratch) {
  RowGroup group;
  group.first = true;
  group.count = 0;
  const auto flush = [&] {
    if (source == Source::luma || image.type == PixelType::f32)
      add_rows_f32(scratch.sums, group, image.width);
    else if (image.type == PixelType::u8)
      add_rows_u8(scratch.sums, group, image.width);
    else
      add_rows_u16(scratch.sums, group, image.width);
    group.first = false;
    group.count = 0;
  };
  for (int t = 0; t < axis.count; ++t) {
    const float w = axis.weights[t * axis.stride + i];
    if (w == 0.f) continue;
    group.rows[group.count] = source_row(image, source, axis.first[i] + t, scratch.rows[group.count]);
    group.weights[group.count] = w;
    if (++group.count == 4) flush();
  }
  if (group.count > 0) flush();
}

}  // namespace

void check_shape(const Image& input, const ImageGeometry& geometry, const ImageOptions& options) {
  require(input.data != nullptr, "image", "a NULL pointer", "pixels");
  require(input.channels == 1 || input.channels == 3, "image", std::to_string(input.channels) + " channels",
          "1 (gray) or 3 (RGB); drop the alpha channel first");
  require(geometry.input.width == input.width && geometry.input.height == input.height, "geometry",
          "the geometry of another size", "image_geometry() of this image");
  check_options(options);
}

void check_image(const Image& input, const ImageGeometry& geometry, const ImageOptions& options) {
  check_shape(input, geometry, options);
  if (input.type != PixelType::f32) return;
  for (int y = 0; y < input.height; ++y) {
    const auto* row = static_cast<const float*>(row_of(input, y));
    bool inside = false;
    range_f32(row, input.width * input.channels, -kTolerance, 1.f + kTolerance, &inside);
    if (inside) continue;
    for (int x = 0; x < input.width * input.channels; ++x) {
      const std::string where = " in row " + std::to_string(y);
      require(std::isfinite(row[x]), "image", "NaN or infinity" + where, "finite values");
      require(row[x] >= -kTolerance && row[x] <= 1.f + kTolerance, "image", std::to_string(row[x]) + where,
              "float32 values in [0, 1]: divide by the largest value the device can deliver (255, 4095, 65535 ...)");
    }
  }
}

void resize(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
            const ImageOptions& options, View<float> intensity) {
  Workspace::Frame frame(workspace);
  Recipe recipe;
  recipe.source = choose_source(workspace, input);
  recipe.unit = unit_of(input);

  const int longer = std::max(input.width, input.height);
  const AxisTaps across = make_axis(workspace, {input.width, longer, options.working_size}, geometry.content.width);
  const AxisTaps down = make_axis(workspace, {input.height, longer, options.working_size}, geometry.content.height);
  const Taps taps{across.first, across.weights, across.count, across.stride, is_narrow(across)};

  const std::size_t row = padded(static_cast<std::size_t>(input.width));
  RowScratch* slots = workspace.take<RowScratch>(static_cast<std::size_t>(context.threads()));
  for (int s = 0; s < context.threads(); ++s) {
    slots[s].sums = workspace.take<float>(row + kRowPad);
    std::fill_n(slots[s].sums + input.width, row + kRowPad - static_cast<std::size_t>(input.width), 0.f);
    for (auto& buffer : slots[s].rows)
      buffer = recipe.source == Source::gray ? nullptr : workspace.take<std::byte>(row * sizeof(float));
  }
  context.parallel_for(geometry.content.height, kRowsPerChunk, [&](int begin, int end, int slot) {
    for (int y = begin; y < end; ++y) {
      sum_rows(input, recipe.source, down, y, slots[slot]);
      resize_row(intensity.row(y), slots[slot].sums, taps, static_cast<int>(intensity.stride), recipe.unit);
    }
  });
}

}  // namespace fastretina::image_steps
