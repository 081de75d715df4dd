// Any text as a manifest: refused with a word, or a model whose facts are in range.
#include <cstring>

#include "filter_engine.h"

using namespace fastretina;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FilterEngine engine;
  const fastretina_engine callbacks = engine.callbacks();
  fastretina_model* model = nullptr;
  const fastretina_error error = fastretina_model_from_memory(reinterpret_cast<const char*>(data), size, nullptr, 0,
                                                              FASTRETINA_PRECISION_F32, &callbacks, &model);
  CHECK((error == FASTRETINA_SUCCESS) == (model != nullptr));
  if (model == nullptr) {
    CHECK(error == FASTRETINA_ENGINE_ERROR && std::strlen(fastretina_last_error()) > 0);
  } else {
    fastretina_model_info info;
    CHECK(fastretina_model_describe(model, &info) == FASTRETINA_SUCCESS && std::strlen(info.weights_sha256) == 64);
    fastretina_session* session = nullptr;
    const fastretina_options options = filter_options();
    engine.dims = 64;
    const fastretina_error opened = fastretina_session_create(model, &options, &session);
    CHECK(opened == FASTRETINA_SUCCESS || opened == FASTRETINA_ENGINE_ERROR);
    fastretina_session_destroy(session);
    fastretina_model_destroy(model);
  }
  CHECK(engine.released == 1 && engine.opened == engine.closed);
  return 0;
}
