// What the holder of arrays beside the CUDA twins needs, without a header of CUDA's: memory in the order of a stream (a
// cudaStream_t), of the current device. Errors are EngineError.
#pragma once

#include <cstddef>

#include "core/workspace.h"

namespace fastretina {

struct DeviceRuntime {
  MemorySource scratch;  // of a Workspace
  void* (*allocate)(std::size_t bytes, void* stream);
  void (*release)(void* memory, void* stream, int device) noexcept;
  void (*copy)(void* to, const void* from, std::size_t bytes, void* stream);  // host and device in any combination
  void (*wait)(void* stream);
  void (*follow)(void* stream, void* earlier);  // what `stream` gets from now on runs after what `earlier` has got
  int (*device_of)(const void* memory);         // -1: not a device's
  int (*current_device)();
};

const DeviceRuntime* device_runtime();  // NULL: this build has no CUDA

}  // namespace fastretina
