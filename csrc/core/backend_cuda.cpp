// The table of the CUDA twins, and what they share on the host. Linked in place of backend_none.cpp.
#include <string>

#include "core/backend.h"
#include "core/cuda.h"
#include "core/device_runtime.h"
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
                                     .refine_field = &cuda::refine_field,
                                     .ridge_correlation = &cuda::ridge_correlation,
                                     .warp = &cuda::warp};
  return &kTable;
}

namespace cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const bool bare = status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice;
  const char* remedy = bare ? "; remedy: an NVIDIA GPU with a driver as new as this build's CUDA (nvidia-smi shows both), or the CPU" : "";
  throw EngineError(std::string("CUDA, ") + what + ": " + cudaGetErrorString(status) + remedy);
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

namespace {

using cuda::check;

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

void* allocate(std::size_t bytes, void* stream) {
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, bytes + (bytes == 0), as_stream(stream)), "cudaMallocAsync");
  return memory;
}

void release(void* memory, void* stream, int device) noexcept {
  int current = device;
  static_cast<void>(cudaGetDevice(&current));
  if (current != device) static_cast<void>(cudaSetDevice(device));  // the default stream is one a device
  static_cast<void>(cudaFreeAsync(memory, as_stream(stream)));
  if (current != device) static_cast<void>(cudaSetDevice(current));
}

void copy(void* to, const void* from, std::size_t bytes, void* stream) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, as_stream(stream)), "cudaMemcpyAsync");
}

void wait(void* stream) { check(cudaStreamSynchronize(as_stream(stream)), "cudaStreamSynchronize"); }

void follow(void* stream, void* earlier) {
  if (stream == earlier) return;
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  const cudaError_t recorded = cudaEventRecord(event, as_stream(earlier));
  const cudaError_t waits = recorded == cudaSuccess ? cudaStreamWaitEvent(as_stream(stream), event, 0) : recorded;
  static_cast<void>(cudaEventDestroy(event));
  check(waits, "the order of two streams");
}

int device_of(const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
  const bool reachable = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return reachable ? attributes.device : -1;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

}  // namespace

const DeviceRuntime* device_runtime() {
  static const DeviceRuntime kRuntime = {.scratch = cuda::device_memory(),
                                         .allocate = allocate,
                                         .release = release,
                                         .copy = copy,
                                         .wait = wait,
                                         .follow = follow,
                                         .device_of = device_of,
                                         .current_device = current_device};
  return &kRuntime;
}

}  // namespace fastretina
