// One pair on the device: the steps of pipeline.cpp in their order, queued on one stream. The first start of the
// ladder's first rung and its polish need no look from the host, so that they can be captured into a CUDA graph; a
// local field follows where the host, which judges them, wants one.
//
//   look(stream)            both images -> planes and ridges
//   (the caller queues the network, which reads the planes)
//   solve(stream, ...)      detect, describe, match, estimate, refine, polish -> findings()
//   (the caller queues one copy of findings() to the host, and waits)
//   read(findings)          quality, on the host: the answer, and whether it ends the climb
//   where it wants_field():
//   deform(stream)          a local field -> findings()
//   (the caller copies findings() again, and waits)
//   read_field(findings)    the answer, with the field
//
// After the first of each nothing allocates. What was queued holds addresses of this object and of the images.
#pragma once

#include <cstddef>
#include <memory>

#include "pipeline.h"

namespace fastretina::cuda {

// What one image looked like, on the host.
struct Seen {
  Transform T_network_input;
  Size content;
  Keypoints keypoints;           // network px
  View<const float> difference;  // a value a stride-4 cell of the padded plane
};

class DevicePair {
 public:
  virtual ~DevicePair() = default;

  // What the network reads: device memory. The second plane follows the first, so that two of a size are a batch.
  virtual View<const float> plane(int image) const = 0;  // 0: FIXED, 1: MOVING

  virtual void look(void* stream) = 0;
  virtual void solve(void* stream, const NetworkOutput& fixed, const NetworkOutput& moving) = 0;

  virtual const std::byte* findings() const = 0;  // on the device
  virtual std::size_t findings_bytes() const = 0;

  // findings: a copy on the host, 64-byte aligned, which seen() gives views of. Throws InvalidArgument for an image
  // with values out of range, EngineError for a network that answered NaN.
  virtual const Registration& read(std::byte* findings) = 0;
  virtual bool strong() const = 0;  // is what was read the answer? If not, the pair is the CPU's
  virtual bool wants_field() const = 0;
  virtual void deform(void* stream) = 0;  // not to be captured: it holds what was read
  virtual const Registration& read_field(std::byte* findings) = 0;
  virtual const Seen& seen(int image) const = 0;
};

// fixed, moving: their pixels lie in device memory. multiple, dims: the network's. NULL: this build has no CUDA.
std::unique_ptr<DevicePair> make_device_pair(const Image& fixed, const Image& moving, const Options& options,
                                             int multiple, int dims);

}  // namespace fastretina::cuda
