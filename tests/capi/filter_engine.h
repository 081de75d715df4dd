// The network of fixed filters as an engine of the C ABI, and what the tests need around it.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "capi/fastretina.h"
#include "check.h"
#include "scene.h"

namespace fastretina {

// Counts what is open, fails on demand.
struct FilterEngine {
  std::atomic<int> opened{0}, closed{0}, released{0};
  std::atomic<bool> broken{false};
  int dims = 64;

  struct Instance {
    FilterEngine* engine;
    FilterNetwork network;
    std::vector<float> maps;
  };

  fastretina_engine callbacks() {
    return {sizeof(fastretina_engine), "filters", this, supports, open, run, close, release};
  }

 private:
  static std::int32_t supports(void*, fastretina_precision precision) { return precision == FASTRETINA_PRECISION_F32; }

  static fastretina_error open(void* user, const fastretina_network* network, std::int32_t, void** instance) {
    auto* engine = static_cast<FilterEngine*>(user);
    if (network->dims != engine->dims) return fastretina_fail(FASTRETINA_ENGINE_ERROR, "dims: expected 64");
    ++engine->opened;
    *instance = new Instance{engine, {}, {}};
    return FASTRETINA_SUCCESS;
  }

  static fastretina_error run(void* user, const fastretina_plane* plane, fastretina_maps* maps) {
    auto& instance = *static_cast<Instance*>(user);
    if (instance.engine->broken) return fastretina_fail(FASTRETINA_ENGINE_ERROR, "the accelerator is on fire");
    const NetworkOutput out = instance.network.run({plane->data, plane->width, plane->height, plane->row_floats});
    const auto cells = static_cast<std::size_t>(out.difference.width * out.difference.height);
    instance.maps.assign(2 * cells, 0.0F);  // the background's logit is 0: the difference is the other one, bit for bit
    std::copy_n(out.difference.data, cells, instance.maps.data());
    *maps = {instance.maps.data(), out.descriptors.data, out.descriptors.stride_c, out.descriptors.stride_y,
             out.descriptors.stride_x};
    return FASTRETINA_SUCCESS;
  }

  static void close(void* user) {
    auto* instance = static_cast<Instance*>(user);
    ++instance->engine->closed;
    delete instance;
  }
  static void release(void* user) { ++static_cast<FilterEngine*>(user)->released; }
};

inline const std::string kFilterManifest =
    "name = \"filters\"\npad_multiple = 8\ndescriptor_dims = 64\n[weights.onnx]\nfile = \"none.onnx\"\nsha256 = \"" +
    std::string(64, '0') + "\"\n";

inline fastretina_model* load(FilterEngine& engine) {
  fastretina_model* model = nullptr;
  const fastretina_engine callbacks = engine.callbacks();
  CHECK(fastretina_model_from_memory(kFilterManifest.data(), kFilterManifest.size(), nullptr, 0,
                                     FASTRETINA_PRECISION_F32, &callbacks, &model) == FASTRETINA_SUCCESS);
  return model;
}

inline fastretina_options filter_options(std::int32_t threads = 1) {
  fastretina_options options;
  fastretina_options_default(&options);
  options.threads = threads;
  options.working_size = kWidth;
  options.max_keypoints = 300;
  return options;
}

inline fastretina_image image_of(const Photograph& photograph) {
  return {photograph.pixels.data(), photograph.width, photograph.width, photograph.height, FASTRETINA_GRAY_U8};
}

inline bool last_error_says(const char* words) {
  return std::string(fastretina_last_error()).find(words) != std::string::npos;
}

// Maps a photograph's pixels to the scene's.
inline Transform shifted(double x, double y, double angle = 0) {
  Transform T;
  T.kind = TransformKind::similarity;
  T.p[0] = T.p[4] = std::cos(angle);
  T.p[1] = -std::sin(angle);
  T.p[3] = std::sin(angle);
  T.p[2] = x;
  T.p[5] = y;
  return T;
}

}  // namespace fastretina
