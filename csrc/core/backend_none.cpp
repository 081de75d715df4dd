// Linked in place of backend_cuda.cpp where the build has no CUDA: the rooms need no #ifdef.
#include "core/backend.h"
#include "core/device_runtime.h"

namespace fastretina {

const Backend* cuda_backend() { return nullptr; }
const DeviceRuntime* device_runtime() { return nullptr; }

}  // namespace fastretina
