// What the CUDA twins share on the host. The contract of every function in namespace cuda:
//
// Data (views, arrays, counts, a Transform passed by reference, results) lies in device memory; sizes, capacities and
// options are the host's. Work goes to context.stream and nothing waits for it; counts stay on the device, so a grid is
// made for the capacity and its threads stop at the count. The Workspace is one of device_memory() and belongs to that
// stream. Misuse that shows on the host is the same InvalidArgument as the CPU twin's.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "core/context.h"
#include "core/workspace.h"

namespace fastretina::cuda {

MemorySource device_memory();

// Throws EngineError with CUDA's own words unless all is well.
void check(cudaError_t status, const char* what);

// Compute capability of the current device, 10 x major + minor.
int compute_capability();

inline cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

constexpr unsigned blocks_for(std::int64_t n, int per_block) {
  return n > 0 ? static_cast<unsigned>((n + per_block - 1) / per_block) : 0u;
}

inline void fill(const Context& context, void* memory, int byte, std::size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(memory, byte, bytes, stream_of(context)), "cudaMemsetAsync");
}
inline void copy(const Context& context, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(context)), "cudaMemcpyAsync");
}

// kernel<<<blocks, threads, 0, stream>>>(arguments...); nothing where there are no blocks.
template <class... Parameters, class... Arguments>
void launch(const Context& context, dim3 blocks, dim3 threads, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        check(cudaLaunchKernel(kernel, blocks, threads, pointers, 0, stream_of(context)), "kernel launch");
      },
      values);
}

}  // namespace fastretina::cuda
