// A fastretina_engine as the pipeline sees it: a model owns the engine, a session runs an instance of it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "capi/fastretina.h"
#include "network/manifest.h"
#include "network/network.h"

namespace fastretina::capi {

// Takes over the callbacks; releases their user in the end.
class Engine {
 public:
  // Throws InvalidArgument where a callback is missing. The user is released then, too.
  explicit Engine(const fastretina_engine& engine);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const std::string& name() const { return name_; }
  bool supports(Precision precision) const;
  const fastretina_engine& calls() const { return calls_; }

 private:
  fastretina_engine calls_{};
  std::string name_;
};

// Immutable, and shared by its sessions: the handle of a model may go before they do.
struct Model {
  std::unique_ptr<const Engine> engine;  // first, so that it is released last
  Manifest manifest;
  Precision precision = Precision::f32;
  std::vector<std::byte> weights;  // empty: the engine has its own

  fastretina_network facts() const;
};

// One instance of a model's engine.
class EngineNetwork : public Network {
 public:
  EngineNetwork(std::shared_ptr<const Model> model, int threads);
  ~EngineNetwork() override;

  NetworkOutput run(View<const float> plane) override;
  int multiple() const override { return model_->manifest.multiple; }
  int dims() const override { return model_->manifest.dims; }

 private:
  std::shared_ptr<const Model> model_;
  void* instance_ = nullptr;
  std::vector<float> difference_;
};

}  // namespace fastretina::capi
