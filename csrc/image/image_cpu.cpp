// The room `image` on the CPU.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.h"
#include "image/image_kernels.h"
#include "image/image_steps.h"

namespace fastretina {

namespace {

std::string size_text(Size size) { return std::to_string(size.width) + " x " + std::to_string(size.height) + " px"; }

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }
}  // namespace

namespace image_steps {
void check_options(const ImageOptions& options) {
  require(options.working_size >= kSmallestSidePx && options.working_size <= kLargestSidePx, "working_size",
          std::to_string(options.working_size), "64...16384 px");
  require(options.multiple >= 1 && options.multiple <= 1024, "multiple", std::to_string(options.multiple),
          "1...1024 px");
  require(options.dark_fraction >= 0 && options.dark_fraction < 1, "dark_fraction",
          std::to_string(options.dark_fraction), "a number in [0, 1)");
  require(options.erode_px >= 0 && options.erode_px < 64, "erode_px", std::to_string(options.erode_px), "0...63 px");
  require(options.clip > 0 && std::isfinite(options.clip), "clip", std::to_string(options.clip), "a positive number");
}
}  // namespace image_steps

ImageGeometry image_geometry(Size input, const ImageOptions& options) {
  image_steps::check_options(options);
  require(std::min(input.width, input.height) >= kSmallestSidePx, "image", size_text(input),
          "a shorter side of at least 64 px");
  ImageGeometry g;
  g.input = input;
  g.scale = static_cast<double>(options.working_size) / std::max(input.width, input.height);
  const auto scaled = [&](int side) { return std::max(1, static_cast<int>(std::floor(side * g.scale + 0.5))); };
  g.content = {scaled(input.width), scaled(input.height)};
  g.plane = {round_up(g.content.width, options.multiple), round_up(g.content.height, options.multiple)};
  return g;
}

namespace cpu {

void image(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
           const ImageOptions& options, const NetworkImage& output) {
  image_steps::check_image(input, geometry, options);
  Workspace::Frame frame(workspace);
  const auto [width, height] = geometry.content;
  const int stride = round_up(width, image_kernels::kRowPad);

  image_steps::Plane plane;
  plane.intensity = {workspace.take_plane<float>(stride, height).data, width, height, stride};
  plane.mask = {workspace.take_plane<std::uint8_t>(stride, height).data, width, height, stride};
  plane.bits = workspace.take_plane<std::uint64_t>(stride / 64, height);

  image_steps::resize(context, workspace, input, geometry, options, plane.intensity);
  image_steps::field_of_view(workspace, options, plane);
  const float contrast = image_steps::normalise(context, workspace, plane, options, output);
  if (output.contrast) *output.contrast = contrast;

  if (!output.gray.empty())
    for (int y = 0; y < height; ++y) std::copy_n(plane.intensity.row(y), width, output.gray.row(y));

  // Step 5, and the mask.
  const std::size_t pad = static_cast<std::size_t>(geometry.plane.width - width);
  for (int y = 0; y < geometry.plane.height; ++y) {
    const std::size_t from = y < height ? static_cast<std::size_t>(width) : 0;
    const std::size_t missing = y < height ? pad : static_cast<std::size_t>(geometry.plane.width);
    std::fill_n(output.plane.row(y) + from, missing, 0.f);
    std::memcpy(output.mask.row(y), plane.mask.row(std::min(y, height - 1)), from);
    std::memset(output.mask.row(y) + from, 0, missing);
  }
}

void gray(const Context& context, Workspace& workspace, const Image& input, const ImageGeometry& geometry,
          const ImageOptions& options, View<float> output) {
  image_steps::check_image(input, geometry, options);
  Workspace::Frame frame(workspace);
  const auto [width, height] = geometry.content;
  const int stride = round_up(width, image_kernels::kRowPad);
  const View<float> padded(workspace.take_plane<float>(stride, height).data, width, height, stride);
  image_steps::resize(context, workspace, input, geometry, options, padded);
  for (int y = 0; y < height; ++y) std::copy_n(padded.row(y), width, output.row(y));
}

}  // namespace cpu
}  // namespace fastretina
