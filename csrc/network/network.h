// Room 2, network: one normalised plane -> class-difference map + dense descriptors. An interface: OpenVINO, TensorRT, torch
// or a vendor's own accelerator stand behind it, one adapter a file; no inference SDK is named anywhere else.
#pragma once

#include "core/types.h"
#include "describe/describe.h"

namespace fastretina {

struct NetworkOutput {
  View<const float> difference;  // (h, w) = plane / 4: logit of "vessel" minus logit of "background"
  DenseMap descriptors;          // dims x h x w
};

class Network {
 public:
  virtual ~Network() = default;

  // plane: height and width are multiples of multiple(). The output stays valid until the next run. Its difference map
  // must be finite, its descriptors where a key point reads them. Throws EngineError on failure.
  // plane is valid during the call only. One session calls at a time.
  virtual NetworkOutput run(View<const float> plane) = 0;

  virtual int multiple() const = 0;  // what plane sizes are padded to: a multiple of 4
  virtual int dims() const = 0;      // of a descriptor
};

}  // namespace fastretina
