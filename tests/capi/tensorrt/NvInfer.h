// A stand-in for TensorRT's header (>= 10): what csrc/network/tensorrt_engine.cpp uses of it, with the real signatures.
// Its "network" is the fixed filters of tests/cpp/scene.h; a "plan" is text: the engine's name, its descriptors' dims,
// the largest side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>

#include "cuda_runtime_api.h"
#include "scene.h"

namespace nvinfer1 {

using AsciiChar = char;

class Dims64 {
 public:
  std::int32_t nbDims;
  std::int64_t d[8];
};
using Dims = Dims64;
class Dims4 : public Dims {
 public:
  Dims4(std::int64_t d0, std::int64_t d1, std::int64_t d2, std::int64_t d3) : Dims{4, {d0, d1, d2, d3}} {}
};

class ILogger {
 public:
  enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
  virtual void log(Severity severity, AsciiChar const* msg) noexcept = 0;
  virtual ~ILogger() = default;
};

class IExecutionContext {
 public:
  explicit IExecutionContext(std::int64_t largest) : largest_(largest) {}
  virtual ~IExecutionContext() noexcept = default;
  bool setInputShape(char const* name, Dims const& dims) noexcept {
    shape_ = dims;
    return std::string(name) == "plane" && std::max(dims.d[2], dims.d[3]) <= largest_;
  }
  bool setTensorAddress(char const* name, void* data) noexcept { return (address_[name] = data) != nullptr; }
  bool enqueueV3(cudaStream_t) noexcept {
    const auto height = static_cast<int>(shape_.d[2]), width = static_cast<int>(shape_.d[3]);
    const auto out = network_.run({static_cast<const float*>(address_["plane"]), width, height, width});
    const std::int64_t cells = std::int64_t{out.difference.width} * out.difference.height;
    auto* maps = static_cast<float*>(address_["class_maps"]);
    auto* descriptors = static_cast<float*>(address_["descriptors"]);
    std::copy_n(out.difference.data, cells, maps);
    std::fill_n(maps + cells, cells, 0.0F);
    for (int c = 0; c < out.descriptors.dims; ++c)
      for (int y = 0; y < out.difference.height; ++y)
        for (int x = 0; x < out.difference.width; ++x)
          *descriptors++ = out.descriptors.data[c * out.descriptors.stride_c + y * out.descriptors.stride_y +
                                                x * out.descriptors.stride_x];
    return true;
  }

 private:
  std::int64_t largest_;
  Dims shape_{};
  std::map<std::string, void*> address_;
  fastretina::FilterNetwork network_;
};

class ICudaEngine {
 public:
  std::string name;
  std::int64_t dims = 0, largest = 0;
  virtual ~ICudaEngine() noexcept = default;
  char const* getName() const noexcept { return name.c_str(); }
  Dims getTensorShape(char const*) const noexcept { return Dims4(-1, dims, -1, -1); }
  IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(largest); }
};

class IRuntime {
 public:
  explicit IRuntime(ILogger& log) : log_(log) {}
  virtual ~IRuntime() noexcept = default;
  ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept {
    std::istringstream plan(std::string(static_cast<const char*>(blob), size));
    auto* engine = new ICudaEngine;
    std::getline(plan, engine->name);
    if (plan >> engine->dims >> engine->largest) return engine;
    log_.log(ILogger::Severity::kERROR, "the plan is of another version");
    delete engine;
    return nullptr;
  }

 private:
  ILogger& log_;
};

inline IRuntime* createInferRuntime(ILogger& logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
