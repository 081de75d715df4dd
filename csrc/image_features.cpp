#include "image_features.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/finite.h"

namespace fastretina {
namespace {

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool upright(const Pose& pose) { return pose.eighth_turns % 4 == 0; }
bool oblique(const Pose& pose) { return pose.eighth_turns % 2 != 0; }

// Of the turned image: quarter turns keep every pixel, oblique ones keep the frame and lose its corners.
Size turned_size(const Pose& pose, Size source) {
  return upright(pose) || oblique(pose) ? source : Size{source.height, source.width};
}

// The pixel map of a turn: source (x, y) -> result (x, y).
Transform turned_by(const Pose& pose, Size source) {
  const double w = source.width - 1, h = source.height - 1;
  // After mirroring: x -> (mirrored ? w - x : x) = s x + o.
  const double s = pose.mirrored ? -1 : 1, o = pose.mirrored ? w : 0;
  Transform t;
  t.kind = TransformKind::similarity;
  const double quarters[4][6] = {{s, 0, o, 0, 1, 0}, {0, 1, 0, -s, 0, w - o}, {-s, 0, w - o, 0, -1, h}, {0, -1, h, s, 0, o}};
  constexpr double kHalf = 0.70710678118654752440;  // sine and cosine of 45 degrees
  constexpr double kCos[4] = {kHalf, -kHalf, -kHalf, kHalf}, kSin[4] = {kHalf, kHalf, -kHalf, -kHalf};
  const int quarter = (pose.eighth_turns >> 1) & 3;
  if (!oblique(pose)) {
    for (int i = 0; i < 6; ++i) t.p[i] = quarters[quarter][i];
    return t;
  }
  // (x, y) -> (c x + n y, -n x + c y) about the middle of the frame.
  const double c = kCos[quarter], n = kSin[quarter], cx = w / 2, cy = h / 2;
  const double oblique_map[6] = {c * s, n, cx + c * (o - cx) - n * cy, -n * s, c, cy - n * (o - cx) - c * cy};
  for (int i = 0; i < 6; ++i) t.p[i] = oblique_map[i];
  return t;
}

// Copies `source` mirrored and turned by quarters.
void turn(View<const float> source, const Pose& pose, View<float> result) {
  for (int y = 0; y < source.height; ++y) {
    const float* row = source.row(y);
    for (int x = 0; x < source.width; ++x) {
      const int mx = pose.mirrored ? source.width - 1 - x : x;
      switch ((pose.eighth_turns >> 1) & 3) {
        case 0: result.row(y)[mx] = row[x]; break;
        case 1: result.row(source.width - 1 - mx)[y] = row[x]; break;
        case 2: result.row(source.height - 1 - y)[source.width - 1 - mx] = row[x]; break;
        default: result.row(mx)[source.height - 1 - y] = row[x]; break;
      }
    }
  }
}

}  // namespace

int scaled_working_size(const ImageOptions& options, const Pose& pose) {
  return static_cast<int>(std::lround(pose.scale * options.working_size));
}

Stopwatch::Stopwatch(double& milliseconds) : milliseconds_(milliseconds), start_(now_ms()) {}
Stopwatch::~Stopwatch() { milliseconds_ += now_ms() - start_; }

ImageOptions source_options(Size input, const ImageOptions& options) {
  ImageOptions shrunk = options;
  const double longer = std::max(input.width, input.height), shorter = std::min(input.width, input.height);
  const double least = kSmallestSidePx * longer / std::max(shorter, 1.0);  // keeps what the image room asks for
  const double wanted = std::max(kSourcePerWorkingSize * options.working_size, std::ceil(least));
  shrunk.working_size = static_cast<int>(std::max(std::min(longer, wanted), double{kSmallestSidePx}));
  return shrunk;
}

void Source::take(const Image& image, const ImageOptions& options, const Backend& backend, const Context& context,
                  Workspace& workspace) {
  const ImageOptions shrunk = source_options({image.width, image.height}, options);
  const ImageGeometry geometry = image_geometry({image.width, image.height}, shrunk);
  input = geometry.input;
  const Size size = geometry.content;
  gray = {gray_.resize(static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height)), size.width,
          size.height};
  backend.gray(context, workspace, image, geometry, shrunk, gray);
  T_source_input = resized_by(geometry.scale);
}

void Features::extract(const Source& source, const Pose& shown, Network* network, const FeatureOptions& options,
                       const Backend& backend, const Context& context, Workspace& workspace, Timings& timings) {
  Workspace::Frame frame(workspace);
  pose = shown;
  input = source.input;
  Image image = image_of(source.gray);
  const Size whole{image.width, image.height};
  const Transform T_turned_source = turned_by(shown, whole);
  compose(T_turned_source, source.T_source_input, T_network_input);
  if (shown.eighth_turns != 0 || shown.mirrored) {
    const Stopwatch stopwatch(timings.image);
    const Size size = turned_size(shown, whole);
    const View<float> turned = workspace.take_plane<float>(size.width, size.height);
    if (oblique(shown)) {
      const View<std::uint8_t> valid = workspace.take_plane<std::uint8_t>(size.width, size.height);
      const MutableImage out{turned.data, size.width, size.height, 1, image_of(turned).row_bytes, PixelType::f32};
      backend.warp(context, workspace, image, T_turned_source, {}, out, valid);
    } else {
      turn(source.gray, shown, turned);
    }
    image = image_of(turned);
  }
  FeatureOptions scaled = options;
  scaled.image.working_size = scaled_working_size(options.image, shown);
  look(image, network ? network->dims() : 0, scaled, backend, context, workspace, timings);
  described = network != nullptr;
  if (network) describe(*network, scaled, backend, context, workspace, timings);
}

void Features::resize(const ImageGeometry& geometry, int dims, const FeatureOptions& options) {
  const auto plane_of = [](auto& buffer, Size size) {
    return View(buffer.resize(static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height)), size.width,
                size.height);
  };
  content = geometry.content;
  plane = plane_of(plane_, geometry.plane);
  mask = plane_of(mask_, geometry.plane);
  difference = plane_of(difference_, {geometry.plane.width / kStride, geometry.plane.height / kStride});

  const auto capacity = static_cast<std::size_t>(options.detect.max_keypoints);
  keypoint_count_ = 0;
  keypoints = {xy_.resize(2 * capacity), score_.resize(capacity), &keypoint_count_, options.detect.max_keypoints};
  descriptors = {rows_.resize(capacity * static_cast<std::size_t>(dims)), &keypoint_count_, options.detect.max_keypoints,
                 dims};

  constexpr std::size_t kAlign = 64;
  std::byte* bytes = ridge_bytes_.resize(ridge_map_bytes(geometry.plane, options.ridges) + kAlign);
  const auto address = reinterpret_cast<std::uintptr_t>(bytes);
  ridges = lay_out(geometry.plane, options.ridges, bytes + (kAlign - address % kAlign) % kAlign);
}

void Features::look(const Image& image, int dims, const FeatureOptions& options, const Backend& backend,
                    const Context& context, Workspace& workspace, Timings& timings) {
  const ImageGeometry geometry = image_geometry({image.width, image.height}, options.image);
  resize(geometry, dims, options);
  compose(resized_by(geometry.scale), T_network_input, T_network_input);
  {
    const Stopwatch stopwatch(timings.image);
    backend.image(context, workspace, image, geometry, options.image, {plane, mask, {}, &contrast});
    std::ptrdiff_t inside = 0;
    for (int y = 0; y < content.height; ++y)
      inside += std::count(mask.row(y), mask.row(y) + content.width, std::uint8_t{1});
    field = static_cast<double>(inside) / (static_cast<double>(content.width) * content.height);
  }
  const Stopwatch stopwatch(timings.refine);
  backend.ridges(context, workspace, plane, mask, options.ridges, ridges);
}

void Features::describe(Network& network, const FeatureOptions& options, const Backend& backend, const Context& context,
                        Workspace& workspace, Timings& timings) {
  NetworkOutput output;
  {
    const Stopwatch stopwatch(timings.network);
    output = network.run(plane);
    for (int y = 0; y < difference.height; ++y) std::copy_n(output.difference.row(y), difference.width, difference.row(y));
  }
  {
    const Stopwatch stopwatch(timings.detect);
    backend.detect(context, workspace, difference, mask, options.detect, keypoints);
  }
  const Stopwatch stopwatch(timings.describe);
  backend.describe(context, workspace, output.descriptors, keypoints, rows_.data());
  if (!all_finite(rows_.data(), std::ptrdiff_t{keypoint_count_} * descriptors.dims))
    throw EngineError("network: NaN or infinity in the descriptors");
}

}  // namespace fastretina
