#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

#include "capi/guard.h"

namespace {

// An array, not a string: reporting that memory ran out must not need any.
thread_local char last_error[1024] = "";

}  // namespace

extern "C" {

int32_t fastretina_abi_version(void) { return FASTRETINA_ABI_VERSION; }
const char* fastretina_version(void) { return FASTRETINA_VERSION; }

const char* fastretina_last_error(void) { return last_error; }

fastretina_error fastretina_fail(fastretina_error error, const char* text) {
  if (text != last_error) std::snprintf(last_error, sizeof last_error, "%s", text == nullptr ? "" : text);
  return error;
}

}  // extern "C"

namespace fastretina::capi {

fastretina_error fail_with_current_exception() noexcept {
  try {
    throw;
  } catch (const InvalidArgument& error) {
    return fastretina_fail(FASTRETINA_INVALID_ARGUMENT, error.what());
  } catch (const EngineError& error) {
    return fastretina_fail(FASTRETINA_ENGINE_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return fastretina_fail(FASTRETINA_OUT_OF_MEMORY, "memory: there is not enough of it");
  } catch (const std::length_error&) {  // a size beyond what any memory holds
    return fastretina_fail(FASTRETINA_OUT_OF_MEMORY, "memory: there is not enough of it");
  } catch (const std::exception& error) {
    return fastretina_fail(FASTRETINA_INTERNAL_ERROR, error.what());
  } catch (...) {
    return fastretina_fail(FASTRETINA_INTERNAL_ERROR, "an unknown exception");
  }
}

}  // namespace fastretina::capi
