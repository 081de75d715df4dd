// CUDA on the CPU, for tests: what csrc/*/*_cuda.cu use of the runtime and of the device language, in plain C++.
//
// A block's threads are fibers of one thread; they run until a barrier. Blocks run one after the other, streams at
// once. Device memory is heap memory filled with rubbish, so that AddressSanitizer sees what compute-sanitizer would. A
// barrier that some threads never reach is an error, and so is allocating or waiting while a stream is captured.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3() = default;
  constexpr dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct int2 {
  int x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Of the running fiber.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

void block_barrier();
void warp_barrier();
std::byte* warp_slot(int lane);  // 64 bytes of the running warp
int lane();
void run(dim3 grid, dim3 block, const std::function<void()>& kernel);

template <class T>
T exchange(T value, int from) {
  static_assert(sizeof(T) <= 64);
  std::memcpy(warp_slot(lane()), &value, sizeof(T));
  warp_barrier();
  std::memcpy(&value, warp_slot(from), sizeof(T));
  warp_barrier();
  return value;
}

}  // namespace emulation

// --- device language --------------------------------------------------------------------------------------------
using std::max;
using std::min;

inline void __syncthreads() { emulation::block_barrier(); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { emulation::warp_barrier(); }
inline void __threadfence() {}

template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return emulation::exchange(value, from & 31);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, emulation::lane() ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  const int from = emulation::lane() + static_cast<int>(by);
  return emulation::exchange(value, from < 32 ? from : emulation::lane());
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
  const int from = emulation::lane() - static_cast<int>(by);
  return emulation::exchange(value, from >= 0 ? from : emulation::lane());
}
unsigned __ballot_sync(unsigned mask, int predicate);  // lanes that have left count as 0
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
int __syncthreads_count(int predicate);
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }

inline int __popc(unsigned v) { return std::popcount(v); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1; }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> by) {
  return std::exchange(*at, static_cast<T>(*at + by));
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> v) {
  return std::exchange(*at, std::max(*at, v));
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> v) {
  return std::exchange(*at, std::min(*at, v));
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> v) {
  return std::exchange(*at, *at | v);
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> v) {
  return std::exchange(*at, v);
}

// --- runtime ----------------------------------------------------------------------------------------------------
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorStreamCaptureUnsupported = 900
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };

namespace emulation {
struct Stream;
struct Graph;
cudaError_t enqueue(Stream* stream, std::function<void()> work);
}  // namespace emulation
using cudaStream_t = emulation::Stream*;
using cudaGraph_t = emulation::Graph*;
using cudaEvent_t = emulation::Stream*;
inline const cudaStream_t cudaStreamLegacy = reinterpret_cast<cudaStream_t>(std::uintptr_t{1});
inline const cudaStream_t cudaStreamPerThread = reinterpret_cast<cudaStream_t>(std::uintptr_t{2});
constexpr unsigned cudaEventDisableTiming = 2;
using cudaGraphExec_t = emulation::Graph*;

const char* cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

// Arguments are copied now and used whenever the launch runs, as CUDA does.
template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments, std::size_t,
                             cudaStream_t stream) {
  const auto values = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<Parameters...>(*static_cast<Parameters*>(arguments[I])...);
  }(std::index_sequence_for<Parameters...>());
  return emulation::enqueue(stream, [=] { emulation::run(grid, block, [&] { std::apply(kernel, values); }); });
}
