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

// Copies `source` mirrored and turned. Pixel (x, y) of the result is source pixel T^-1 of it, with T from turned_by().
void turn(View<const float> source, const Pose& pose, View<float> result) {
  for (int y = 0; y < source.height; ++y) {
    const float* row = source.row(y);
    for (int x = 0; x < source.width; ++x) {
      const int mx = pose.mirrored ? source.width - 1 - x : x;
      switch (pose.quarter_turns & 3) {
        case 0: result.row(y)[mx] = row[x]; break;
        case 1: result.row(source.width - 1 - mx)[y] = row[x]; break;
        case 2: result.row(source.height - 1 - y)[source.width - 1 - mx] = row[x]; break;
        default: result.row(mx)[source.height - 1 - y] = row[x]; break;
      }
    }
  }
}

// The pixel map of turn(): source (x, y) -> result (x, y).
Transform turned_by(const Pose& pose, Size source) {
  const double w = source.width - 1, h = source.height - 1;
  // After mirroring: x -> (mirrored ? w - x : x) = s x + o.
  const double s = pose.mirrored ? -1 : 1, o = pose.mirrored ? w : 0;
  Transform t;
  t.kind = TransformKind::similarity;
  const double matrices[4][6] = {{s, 0, o, 0, 1, 0}, {0, 1, 0, -s, 0, w - o}, {-s, 0, w - o, 0, -1, h}, {0, -1, h, s, 0, o}};
  for (int i = 0; i < 6; ++i) t.p[i] = matrices[pose.quarter_turns & 3][i];
  return t;
}

Transform resized_by(double scale) { return scaling(scale, 0.5 * scale - 0.5, 0.5 * scale - 0.5); }

}  // namespace

int scaled_working_size(const ImageOptions& options, const Pose& pose) {
  return static_cast<int>(std::lround(pose.scale * options.working_size));
}

Stopwatch::Stopwatch(double& milliseconds) : milliseconds_(milliseconds), start_(now_ms()) {}
Stopwatch::~Stopwatch() { milliseconds_ += now_ms() - start_; }

void Features::extract(const Image& image, Network& network, const FeatureOptions& options, const Backend& backend,
                       const Context& context, Workspace& workspace, Timings& timings) {
  pose = {};
  input = {image.width, image.height};
  T_network_input = {};
  run(image, network, options, backend, context, workspace, timings);
}

void Features::extract(const Features& first, const Pose& other, Network& network, const FeatureOptions& options,
                       const Backend& backend, const Context& context, Workspace& workspace, Timings& timings) {
  Workspace::Frame frame(workspace);
  pose = other;
  input = first.input;
  const bool upright = other.quarter_turns % 2 == 0;
  const Size size = upright ? first.content : Size{first.content.height, first.content.width};
  View<float> turned = workspace.take_plane<float>(size.width, size.height);
  turn(first.gray, other, turned);
  compose(turned_by(other, first.content), first.T_network_input, T_network_input);

  FeatureOptions scaled = options;
  scaled.image.working_size = scaled_working_size(options.image, other);
  const Image image{turned.data, size.width, size.height, 1, size.width * std::ptrdiff_t{sizeof(float)}, PixelType::f32};
  run(image, network, scaled, backend, context, workspace, timings);
}

void Features::resize(const ImageGeometry& geometry, int dims, const FeatureOptions& options) {
  const auto plane_of = [](auto& buffer, Size size) {
    buffer.resize(static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height));
    return View(buffer.data(), size.width, size.height);
  };
  content = geometry.content;
  gray = plane_of(gray_, geometry.content);
  plane = plane_of(plane_, geometry.plane);
  mask = plane_of(mask_, geometry.plane);
  difference = plane_of(difference_, {geometry.plane.width / kStride, geometry.plane.height / kStride});

  const auto capacity = static_cast<std::size_t>(options.detect.max_keypoints);
  xy_.resize(2 * capacity);
  score_.resize(capacity);
  rows_.resize(capacity * static_cast<std::size_t>(dims));
  keypoints = {xy_.data(), score_.data(), &keypoint_count_, options.detect.max_keypoints};
  descriptors = {rows_.data(), &keypoint_count_, options.detect.max_keypoints, dims};

  constexpr std::size_t kAlign = 64;
  ridge_bytes_.resize(ridge_map_bytes(geometry.plane, options.ridges) + kAlign);
  const auto address = reinterpret_cast<std::uintptr_t>(ridge_bytes_.data());
  ridges = lay_out(geometry.plane, options.ridges, ridge_bytes_.data() + (kAlign - address % kAlign) % kAlign);
}

void Features::run(const Image& image, Network& network, const FeatureOptions& options, const Backend& backend,
                   const Context& context, Workspace& workspace, Timings& timings) {
  const ImageGeometry geometry = image_geometry({image.width, image.height}, options.image);
  resize(geometry, network.dims(), options);
  compose(resized_by(geometry.scale), T_network_input, T_network_input);
  {
    const Stopwatch stopwatch(timings.image);
    backend.image(context, workspace, image, geometry, options.image, {plane, mask, gray, &contrast});
  }
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
  {
    const Stopwatch stopwatch(timings.describe);
    backend.describe(context, workspace, output.descriptors, keypoints, rows_.data());
    if (!all_finite(rows_.data(), std::ptrdiff_t{keypoint_count_} * descriptors.dims))
      throw EngineError("network: NaN or infinity in the descriptors");
  }
  const Stopwatch stopwatch(timings.refine);
  backend.ridges(context, workspace, plane, mask, options.ridges, ridges);
}

}  // namespace fastretina
