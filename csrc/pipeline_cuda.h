// The first rung of the ladder, and its polish, for one pair on the device: the steps of pipeline.cpp in their order,
// queued on one stream without a look from the host, so that they can be captured into a CUDA graph.
//
//   look(stream)            both images -> planes and ridges
//   (the caller queues the network, which reads the planes)
//   solve(stream, ...)      detect, describe, match, estimate, refine, polish -> findings()
//   (the caller queues one copy of findings() to the host, and waits)
//   read(findings)          quality, on the host: the answer, and whether it ends the climb
//
// After the first look and solve nothing allocates. What was queued holds addresses of this object and of the images.
#pragma once

#include <cstddef>
#include <memory>

#include "pipeline.h"

namespace fastretina::cuda {

class DevicePair {
 public:
  // fixed, moving: their pixels lie in device memory. multiple, dims: the network's.
  DevicePair(const Image& fixed, const Image& moving, const Options& options, int multiple, int dims);
  ~DevicePair();
  DevicePair(const DevicePair&) = delete;
  DevicePair& operator=(const DevicePair&) = delete;

  // What the network reads: device memory. The second plane follows the first, so that two of a size are a batch.
  View<const float> fixed_plane() const;
  View<const float> moving_plane() const;

  void look(void* stream);
  void solve(void* stream, const NetworkOutput& fixed, const NetworkOutput& moving);

  const std::byte* findings() const;  // on the device
  std::size_t findings_bytes() const;

  // findings: a copy on the host, 64-byte aligned, which the key points and heat maps of the answer are views of.
  // Throws InvalidArgument for an image with values out of range, EngineError for a network that answered NaN.
  const Registration& read(std::byte* findings);
  bool strong() const;  // is what was read the answer? If not, the ladder goes on
  struct Seen {
    Transform T_network_input;
    Size content;
    Keypoints keypoints;           // network px
    View<const float> difference;  // a value a stride-4 cell of the padded plane
  };
  const Seen& fixed_seen() const;
  const Seen& moving_seen() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fastretina::cuda
