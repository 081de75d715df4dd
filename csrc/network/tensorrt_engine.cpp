// The adapter to TensorRT and TensorRT-RTX, for the C ABI's engine interface alone: your build compiles it against your
// SDK (NvInfer.h) and the CUDA runtime. Unproven: see fastretina_tensorrt.h. The Python twin is
// python/fastretina/engines/tensorrt_engine.py; both read the files of `fastretina engine build`.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastretina_tensorrt.h"

namespace {

constexpr const char *kPlane = "plane", *kClassMaps = "class_maps", *kDescriptors = "descriptors";
constexpr const char* kRemedy = "; remedy: fastretina engine build";

[[noreturn]] void fail(const std::string& text) { throw std::runtime_error("tensorrt: " + text); }

void check(cudaError_t error, const char* call) {
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  if (error != cudaSuccess) fail(std::string(call) + ": " + cudaGetErrorString(error));
}

template <class Body>
fastretina_error guarded(Body&& body) noexcept {
  try {
    body();
    return FASTRETINA_SUCCESS;
  } catch (const std::bad_alloc&) {
    return fastretina_fail(FASTRETINA_OUT_OF_MEMORY, "tensorrt: there is not enough memory");
  } catch (const std::exception& error) {
    return fastretina_fail(FASTRETINA_ENGINE_ERROR, error.what());
  } catch (...) {
    return fastretina_fail(FASTRETINA_ENGINE_ERROR, "tensorrt: an unknown exception");
  }
}

// Keeps the last error for the text of ours. TensorRT keeps the first log it is given as long as the process lives.
class Log : public nvinfer1::ILogger {
 public:
  static Log& instance() {
    static Log* log = new Log;
    return *log;
  }
  void log(Severity severity, const char* text) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      last_ = text;
    } catch (...) {  // without memory the text is lost
    }
  }
  std::string last() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_.empty() ? "no reason given" : last_;
  }

 private:
  std::mutex mutex_;
  std::string last_;
};

// One engine file, which every instance runs.
struct Plan {
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;  // ends before its runtime
  std::string network, precision, weights_sha256;
  int device = 0;
};

// Grows and is kept.
class Buffer {
 public:
  explicit Buffer(bool on_host) : on_host_(on_host) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(); }
  float* reserve(std::size_t floats) {
    if (floats > size_) {
      free();
      const std::size_t bytes = floats * sizeof(float);
      check(on_host_ ? cudaMallocHost(&data_, bytes) : cudaMalloc(&data_, bytes), "memory");
      size_ = floats;
    }
    return static_cast<float*>(data_);
  }

 private:
  void free() {
    if (data_ != nullptr) on_host_ ? cudaFreeHost(data_) : cudaFree(data_);
    data_ = nullptr;
    size_ = 0;
  }
  bool on_host_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

struct Instance {
  explicit Instance(int on_device) : device(on_device) { check(cudaStreamCreate(&stream), "stream"); }
  ~Instance() { cudaStreamDestroy(stream); }

  int device;
  cudaStream_t stream = nullptr;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  std::int64_t stride = 0, dims = 0;
  Buffer plane{false}, device_maps{false}, device_descriptors{false}, maps{true}, descriptors{true};
};

const char* name_of(fastretina_precision precision) {
  return precision == FASTRETINA_PRECISION_INT8   ? "int8"
         : precision == FASTRETINA_PRECISION_F16  ? "f16"
         : precision == FASTRETINA_PRECISION_BF16 ? "bf16"
                                                  : "f32";
}

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file || bytes.empty()) fail(path + " cannot be read, or is empty" + kRemedy);
  return bytes;
}

std::unique_ptr<Plan> load(const std::string& path, const char* weights_sha256) {
  const std::vector<char> bytes = read_file(path);
  auto plan = std::make_unique<Plan>();
  check(cudaGetDevice(&plan->device), "device");
  plan->runtime.reset(nvinfer1::createInferRuntime(Log::instance()));
  if (plan->runtime == nullptr) fail("no runtime (" + Log::instance().last() + ")");
  plan->engine.reset(plan->runtime->deserializeCudaEngine(bytes.data(), bytes.size()));
  if (plan->engine == nullptr) fail(path + " does not load here (" + Log::instance().last() + ")" + kRemedy);
  // What `fastretina engine build` calls its engines: fastretina NETWORK PRECISION SHA256
  std::istringstream name(plan->engine->getName());
  std::string maker;
  name >> maker >> plan->network >> plan->precision >> plan->weights_sha256;
  if (!name || maker != "fastretina") fail(path + " is no engine of fastretina" + kRemedy);
  if (weights_sha256 != nullptr && plan->weights_sha256 != weights_sha256)
    fail(path + " was built from other weights of " + plan->network + kRemedy);
  return plan;
}

std::int32_t supports(void* user, fastretina_precision precision) {
  return static_cast<Plan*>(user)->precision == name_of(precision);
}

fastretina_error open_instance(void* user, const fastretina_network* network, std::int32_t, void** instance) {
  return guarded([&] {
    Plan& plan = *static_cast<Plan*>(user);
    const auto dims = plan.engine->getTensorShape(kDescriptors);
    if (plan.network != network->name || dims.nbDims != 4 || dims.d[1] != network->dims)
      fail("the engine file is of network " + plan.network + ", the manifest of " + network->name + kRemedy);
    check(cudaSetDevice(plan.device), "device");
    auto made = std::make_unique<Instance>(plan.device);
    made->context.reset(plan.engine->createExecutionContext());
    if (made->context == nullptr) fail("no execution context (" + Log::instance().last() + ")");
    made->stride = network->stride;
    made->dims = network->dims;
    *instance = made.release();
  });
}

fastretina_error run_instance(void* instance, const fastretina_plane* plane, fastretina_maps* maps) {
  return guarded([&] {
    auto& at = *static_cast<Instance*>(instance);
    check(cudaSetDevice(at.device), "device");
    const std::int64_t height = plane->height, width = plane->width;
    const auto cells = static_cast<std::size_t>((height / at.stride) * (width / at.stride));
    const std::size_t class_floats = 2 * cells, floats = static_cast<std::size_t>(at.dims) * cells;
    float* const input = at.plane.reserve(static_cast<std::size_t>(height * width));
    float* const device_maps = at.device_maps.reserve(class_floats);
    float* const device_descriptors = at.device_descriptors.reserve(floats);
    float* const host_maps = at.maps.reserve(class_floats);
    float* const host_descriptors = at.descriptors.reserve(floats);

    const std::string size = std::to_string(height) + "x" + std::to_string(width);
    if (!at.context->setInputShape(kPlane, nvinfer1::Dims4{1, 1, height, width}))
      fail("a plane of " + size + " is outside of what the engine was built for" + kRemedy + " --min-size, --max-size");
    const bool bound = at.context->setTensorAddress(kPlane, input) &&
                       at.context->setTensorAddress(kClassMaps, device_maps) &&
                       at.context->setTensorAddress(kDescriptors, device_descriptors);
    const std::size_t row = static_cast<std::size_t>(width) * sizeof(float);
    check(cudaMemcpy2DAsync(input, row, plane->data, static_cast<std::size_t>(plane->row_floats) * sizeof(float), row,
                            static_cast<std::size_t>(height), cudaMemcpyHostToDevice, at.stream),
          "copy of the plane");
    if (!bound || !at.context->enqueueV3(at.stream)) fail("the network failed (" + Log::instance().last() + ")");
    check(cudaMemcpyAsync(host_maps, device_maps, class_floats * sizeof(float), cudaMemcpyDeviceToHost, at.stream),
          "copy of the class maps");
    check(cudaMemcpyAsync(host_descriptors, device_descriptors, floats * sizeof(float), cudaMemcpyDeviceToHost,
                          at.stream),
          "copy of the descriptors");
    check(cudaStreamSynchronize(at.stream), "the network");
    maps->class_maps = host_maps;
    maps->descriptors = host_descriptors;
  });
}

void close_instance(void* instance) { delete static_cast<Instance*>(instance); }
void release(void* user) { delete static_cast<Plan*>(user); }

}  // namespace

extern "C" fastretina_error fastretina_tensorrt_engine(const char* path, const char* weights_sha256,
                                                       fastretina_engine* engine) {
  return guarded([&] {
    if (path == nullptr || engine == nullptr) throw std::invalid_argument("path, engine: got NULL, expected pointers");
    *engine = {sizeof(fastretina_engine),
               "tensorrt",
               load(path, weights_sha256).release(),
               supports,
               open_instance,
               run_instance,
               close_instance,
               release};
  });
}
