#include "capi/engine.h"

#include <new>
#include <utility>

#include "capi/guard.h"
#include "capi/sized.h"
#include "core/error.h"
#include "network/class_difference.h"
#include "upsample/upsample.h"

namespace fastretina::capi {
namespace {

// A callback's failure as an exception: whatever it was, the engine is to blame.
void check(fastretina_error error, const Engine& engine, const char* call) {
  if (error == FASTRETINA_SUCCESS) return;
  if (error == FASTRETINA_OUT_OF_MEMORY) throw std::bad_alloc();
  const std::string text = fastretina_last_error();
  throw EngineError("engine " + engine.name() + ": " + call + ": " + (text.empty() ? "failed without a reason" : text));
}

}  // namespace

Engine::Engine(const fastretina_engine& engine) {
  try {
    read_sized(engine, calls_, "engine");
    for (const bool there : {calls_.name != nullptr, calls_.supports != nullptr, calls_.open != nullptr,
                             calls_.run != nullptr, calls_.close != nullptr})
      require(there, "engine", "NULL", "name, supports, open, run and close");
    name_ = calls_.name;
  } catch (...) {
    if (calls_.release != nullptr) calls_.release(calls_.user);
    throw;
  }
}

Engine::~Engine() {
  if (calls_.release != nullptr) calls_.release(calls_.user);
}

bool Engine::supports(Precision precision) const {
  return calls_.supports(calls_.user, static_cast<fastretina_precision>(precision)) != 0;
}

fastretina_network Model::facts() const {
  return {manifest.name.c_str(),
          weights.empty() ? nullptr : weights.data(),
          weights.size(),
          static_cast<fastretina_precision>(precision),
          kStride,
          manifest.multiple,
          manifest.dims};
}

EngineNetwork::EngineNetwork(std::shared_ptr<const Model> model, int threads) : model_(std::move(model)) {
  const fastretina_engine& calls = model_->engine->calls();
  const fastretina_network facts = model_->facts();
  fastretina_fail(FASTRETINA_SUCCESS, "");
  check(calls.open(calls.user, &facts, threads, &instance_), *model_->engine, "open");
}

EngineNetwork::~EngineNetwork() { model_->engine->calls().close(instance_); }

NetworkOutput EngineNetwork::run(View<const float> plane) {
  const int h = plane.height / kStride, w = plane.width / kStride;
  const fastretina_plane input{plane.data, plane.stride, plane.width, plane.height};
  fastretina_maps maps{nullptr, nullptr, std::int64_t{h} * w, w, 1};
  fastretina_fail(FASTRETINA_SUCCESS, "");
  check(model_->engine->calls().run(instance_, &input, &maps), *model_->engine, "run");
  if (maps.class_maps == nullptr || maps.descriptors == nullptr)
    throw EngineError("engine " + model_->engine->name() +
                      ": run: got a NULL map, expected class maps and descriptors");
  class_difference(maps.class_maps, static_cast<std::size_t>(h) * static_cast<std::size_t>(w), difference_);
  return {{difference_.data(), w, h},
          {maps.descriptors, dims(), h, w, static_cast<std::ptrdiff_t>(maps.stride_c),
           static_cast<std::ptrdiff_t>(maps.stride_y), static_cast<std::ptrdiff_t>(maps.stride_x)}};
}

}  // namespace fastretina::capi
