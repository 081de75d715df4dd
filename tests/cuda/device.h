// Arrays and a stream on the device, for tests that compare a CUDA twin with its CPU twin. On the emulator (see
// tests/cuda_emulation) or a GPU; without either the test is skipped, unless FASTRETINA_REQUIRE_GPU is 1.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "core/cuda.h"

namespace fastretina::test {

constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE

inline void need_device() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return;
  const char* required = std::getenv("FASTRETINA_REQUIRE_GPU");
  const bool fails = required && std::strcmp(required, "1") == 0;
  std::fprintf(stderr, "no CUDA device%s\n", fails ? ", and FASTRETINA_REQUIRE_GPU is 1" : ": skipped");
  std::exit(fails ? 1 : kSkipped);
}

// What a twin needs to run.
struct Device {
  Context context;
  Workspace workspace{cuda::device_memory()};
  Device() {
    need_device();
    cudaStream_t stream;
    cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
    context.stream = stream;
  }
  ~Device() { static_cast<void>(cudaStreamDestroy(cuda::stream_of(context))); }
  Device(const Device&) = delete;
  void wait() const { cuda::check(cudaStreamSynchronize(cuda::stream_of(context)), "cudaStreamSynchronize"); }
};

// A copy on the device. Exactly as large as said, so that a byte past its end is nobody's.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count) : count_(count) {
    void* memory = nullptr;
    cuda::check(cudaMalloc(&memory, count * sizeof(T) + (count == 0)), "cudaMalloc");
    memory_.reset(static_cast<T*>(memory));
  }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    if (count_ > 0)
      cuda::check(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  T* data() const { return memory_.get(); }
  std::vector<T> get() const {
    std::vector<T> values(count_);
    cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    if (count_ > 0)
      cuda::check(cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  T value() const { return get().front(); }

 private:
  struct Free {
    void operator()(T* memory) const { static_cast<void>(cudaFree(memory)); }
  };
  std::size_t count_;
  std::unique_ptr<T, Free> memory_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace fastretina::test
