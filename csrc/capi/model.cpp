// Manifest, weights and engine -> one immutable model.
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "capi/guard.h"
#include "capi/handles.h"

namespace fastretina::capi {
namespace {

constexpr Precision kFastestFirst[] = {Precision::i8, Precision::bf16, Precision::f16, Precision::f32};

void check_precision(fastretina_precision precision, bool automatic_allowed) {
  const bool known = precision >= FASTRETINA_PRECISION_F32 && precision <= FASTRETINA_PRECISION_INT8;
  require(known || (automatic_allowed && precision == FASTRETINA_PRECISION_AUTO), "precision",
          std::to_string(precision),
          automatic_allowed ? "FASTRETINA_PRECISION_AUTO ... _INT8" : "FASTRETINA_PRECISION_F32 ... _INT8");
}

Precision choose(const Model& model, fastretina_precision asked) {
  const auto runs = [&](Precision p) { return !model.manifest.weights(p).name.empty() && model.engine->supports(p); };
  if (asked != FASTRETINA_PRECISION_AUTO && runs(static_cast<Precision>(asked))) return static_cast<Precision>(asked);
  std::string allowed;
  for (const Precision p : kFastestFirst) {
    if (!runs(p)) continue;
    if (asked == FASTRETINA_PRECISION_AUTO) return p;
    allowed += std::string(allowed.empty() ? "" : ", ") + precision_name(p);
  }
  const char* name = asked == FASTRETINA_PRECISION_AUTO ? "auto" : precision_name(static_cast<Precision>(asked));
  throw EngineError("precision: engine " + model.engine->name() + " does not run network " + model.manifest.name +
                    " in " + name + " natively; allowed: " + (allowed.empty() ? "none" : allowed));
}

std::string_view text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of("/\\");
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

fastretina_model* handle_of(Model&& model) {
  return new fastretina_model{std::make_shared<const Model>(std::move(model))};
}

}  // namespace
}  // namespace fastretina::capi

using namespace fastretina;
using namespace fastretina::capi;

extern "C" {

fastretina_error fastretina_model_load(const char* manifest_path, fastretina_precision precision,
                                       const fastretina_engine* engine, fastretina_model** model) {
  return guarded([&] {
    Model made;
    made.engine = std::make_unique<const Engine>(given(engine, "engine"));
    const std::string path = &given(manifest_path, "manifest_path");
    given(model, "model");
    check_precision(precision, true);
    made.manifest = read_manifest(text_of(read_file(path, "manifest")));
    made.precision = choose(made, precision);
    made.weights = read_file(folder_of(path) + made.manifest.weights(made.precision).name, "weights");
    check_weights(made.manifest, made.precision, made.weights.data(), made.weights.size());
    *model = handle_of(std::move(made));
  });
}

fastretina_error fastretina_model_from_memory(const char* manifest, size_t manifest_size, const void* weights,
                                              size_t weights_size, fastretina_precision precision,
                                              const fastretina_engine* engine, fastretina_model** model) {
  return guarded([&] {
    Model made;
    made.engine = std::make_unique<const Engine>(given(engine, "engine"));
    given(manifest, "manifest");
    given(model, "model");
    check_precision(precision, false);
    made.manifest = read_manifest({manifest, manifest_size});
    made.precision = choose(made, precision);
    if (weights != nullptr) {
      check_weights(made.manifest, made.precision, weights, weights_size);
      const auto* bytes = static_cast<const std::byte*>(weights);
      made.weights.assign(bytes, bytes + weights_size);
    }
    *model = handle_of(std::move(made));
  });
}

void fastretina_model_destroy(fastretina_model* model) { delete model; }

fastretina_error fastretina_model_describe(const fastretina_model* model, fastretina_model_info* info) {
  return guarded([&] {
    const Model& m = *given(model, "model").shared;
    given(info, "info") = {m.manifest.name.c_str(), m.engine->name().c_str(), m.manifest.f32.sha256.c_str(),
                           static_cast<fastretina_precision>(m.precision)};
  });
}

}  // extern "C"
