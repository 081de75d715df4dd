// Linked in place of backend_cuda.cpp where the build has no CUDA: the rooms need no #ifdef.
#include "core/backend.h"
#include "core/device_runtime.h"
#include "pipeline_cuda.h"

namespace fastretina {

const Backend* cuda_backend() { return nullptr; }
const DeviceRuntime* device_runtime() { return nullptr; }
std::unique_ptr<cuda::DevicePair> cuda::make_device_pair(const Image&, const Image&, const Options&, int, int) {
  return nullptr;
}

}  // namespace fastretina
