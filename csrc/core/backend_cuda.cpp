// The table of the CUDA twins, and what they share on the host. Linked in place of backend_none.cpp.
#include <string>

#include "core/backend.h"
#include "core/cuda.h"
#include "core/error.h"

namespace fastretina {

const Backend* cuda_backend() {
  static constexpr Backend kTable = {.name = "cuda",
                                     .image = &cuda::image,
                                     .gray = &cuda::gray,
                                     .upsample = &cuda::upsample,
                                     .nms = &cuda::nms,
                                     .detect = &cuda::detect,
                                     .describe = &cuda::describe,
                                     .match = &cuda::match,
                                     .match_guided = &cuda::match_guided,
                                     .estimate = &cuda::estimate,
                                     .upgrade = &cuda::upgrade,
                                     .ridges = &cuda::ridges,
                                     .refine = &cuda::refine,
                                     .ridge_correlation = &cuda::ridge_correlation,
                                     .warp = &cuda::warp};
  return &kTable;
}

namespace cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw EngineError(std::string("CUDA, ") + what + ": " + cudaGetErrorString(status));
}

MemorySource device_memory() {
  return {[](std::size_t bytes) {
            void* memory = nullptr;
            check(cudaMalloc(&memory, bytes), "cudaMalloc");
            return memory;
          },
          [](void* memory) noexcept { static_cast<void>(cudaFree(memory)); }};
}

int compute_capability() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

}  // namespace cuda
}  // namespace fastretina
