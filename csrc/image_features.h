// One image as the rooms after the network see it: image -> network -> detect -> describe, and its vessel ridges.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/backend.h"
#include "core/buffer.h"
#include "core/transform.h"
#include "network/network.h"

namespace fastretina {

// How an image is shown to the network. The identity shows it as it is.
struct Pose {
  double scale = 1.0;     // of the working size
  int eighth_turns = 0;   // of 45 degrees, counter-clockwise as seen on a screen; odd ones cut the corners off
  bool mirrored = false;  // left-right, before turning

  friend bool operator==(const Pose&, const Pose&) = default;
};

constexpr double kSourcePerWorkingSize = 2.0;  // finer poses are interpolated

int scaled_working_size(const ImageOptions& options, const Pose& pose);

// How the source of all poses is made of an image of this size.
ImageOptions source_options(Size input, const ImageOptions& options);

inline Transform resized_by(double scale) { return scaling(scale, 0.5 * scale - 0.5, 0.5 * scale - 0.5); }
inline Image image_of(View<const float> plane) {
  constexpr std::ptrdiff_t kFloat = sizeof(float);
  return {plane.data, plane.width, plane.height, 1, plane.stride * kFloat, PixelType::f32};
}

struct FeatureOptions {
  ImageOptions image;
  NmsOptions detect;
  RidgeOptions ridges;
};

struct Timings {  // milliseconds of wall time, summed over attempts
  double image = 0, network = 0, detect = 0, describe = 0, match = 0, estimate = 0, refine = 0, quality = 0;
};

// Adds the time until it is destroyed to one entry of Timings.
class Stopwatch {
 public:
  explicit Stopwatch(double& milliseconds);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& milliseconds_;
  double start_;
};

// The intensities that all poses of an image are taken from, no larger than they will be needed. Owns its memory, which
// only grows.
class Source {
 public:
  Size input;              // of the caller's image, px
  Transform T_source_input;
  View<float> gray;

  Source() = default;
  Source(const Source&) = delete;  // the view points into the buffer
  Source& operator=(const Source&) = delete;

  void take(const Image& image, const ImageOptions& options, const Backend& backend, const Context& context,
            Workspace& workspace);

 private:
  Buffer<float> gray_;
};

// Owns its memory, which only grows.
class Features {
 public:
  Pose pose;
  Size input;                 // of the caller's image, px
  Size content;               // the part of the plane that shows the image
  Transform T_network_input;  // the caller's px -> network px
  float contrast = 0;
  double field = 0;           // share of the content that is inside the field of view
  bool described = false;     // false: the network has not seen it; only plane, mask and ridges are there
  View<float> plane;          // normalised, padded to the network's multiple
  View<std::uint8_t> mask;    // plane-sized field of view
  View<float> difference;     // the network's class-difference map: a heat map of key points at stride 4
  Keypoints keypoints;
  Descriptors descriptors;
  RidgeMap ridges;

  Features() = default;
  Features(const Features&) = delete;  // the views point into the buffers
  Features& operator=(const Features&) = delete;

  // network: NULL for the ridges alone.
  void extract(const Source& source, const Pose& shown, Network* network, const FeatureOptions& options,
               const Backend& backend, const Context& context, Workspace& workspace, Timings& timings);

 private:
  void look(const Image& image, int dims, const FeatureOptions& options, const Backend& backend, const Context& context,
            Workspace& workspace, Timings& timings);
  void describe(Network& network, const FeatureOptions& options, const Backend& backend, const Context& context,
                Workspace& workspace, Timings& timings);
  void resize(const ImageGeometry& geometry, int dims, const FeatureOptions& options);

  Buffer<float> plane_, difference_, xy_, score_, rows_;
  Buffer<std::byte> ridge_bytes_;
  Buffer<std::uint8_t> mask_;
  int keypoint_count_ = 0;
};

}  // namespace fastretina
