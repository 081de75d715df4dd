// Nothing is thrown across the C ABI: a body runs here, and what it throws becomes an error and this thread's text.
#pragma once

#include <string>

#include "capi/fastretina.h"
#include "core/error.h"

namespace fastretina::capi {

fastretina_error fail_with_current_exception() noexcept;

template <class Body>
fastretina_error guarded(Body&& body) noexcept {
  try {
    body();
    return FASTRETINA_SUCCESS;
  } catch (...) {
    return fail_with_current_exception();
  }
}

// As literals all the way: where all is well nothing allocates.
template <class T>
T& given(T* pointer, const char* argument) {
  require(pointer != nullptr, argument, "NULL", "a pointer");
  return *pointer;
}

}  // namespace fastretina::capi
