// Any bytes as weights: taken if and only if the manifest names their hash; one bit or byte less is refused.
#include <string>
#include <vector>

#include "filter_engine.h"
#include "network/sha256.h"

using namespace fastretina;

namespace {

bool loads(const std::string& manifest, const std::vector<std::uint8_t>& weights, std::size_t size) {
  FilterEngine engine;
  const fastretina_engine callbacks = engine.callbacks();
  fastretina_model* model = nullptr;
  const fastretina_error error = fastretina_model_from_memory(manifest.data(), manifest.size(), weights.data(), size,
                                                              FASTRETINA_PRECISION_F32, &callbacks, &model);
  CHECK(error == FASTRETINA_SUCCESS || (error == FASTRETINA_ENGINE_ERROR && last_error_says("truncated or altered")));
  fastretina_model_destroy(model);
  return error == FASTRETINA_SUCCESS;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  std::vector<std::uint8_t> weights(data, data + size);
  const std::string zeros(64, '0');
  std::string manifest = kFilterManifest;
  CHECK(!loads(manifest, weights, size));
  manifest.replace(manifest.find(zeros), 64, sha256(data, size));
  CHECK(loads(manifest, weights, size) && !loads(manifest, weights, size - 1));
  const std::size_t place = (data[0] | data[1] << 8) % size;
  weights[place] = static_cast<std::uint8_t>(weights[place] ^ (1 << (data[2] & 7)));
  CHECK(!loads(manifest, weights, size));
  return 0;
}
