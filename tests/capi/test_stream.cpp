// A live stream through the C ABI: after warm-up not one call of the allocator, whatever the frames show.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <vector>

#include "filter_engine.h"

// The allocator of the C library itself is counted where nothing else has taken its place; a sanitizer has.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
#else
#define COUNTS_ALLOCATIONS 0
#endif

namespace {
std::atomic<long> allocations{0};
}

#if COUNTS_ALLOCATIONS
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  ++allocations;
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t align, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(align, bytes);
}
}
#endif

using namespace fastretina;

int main() {
  constexpr int kFrames = 60;
  const Scene scene(4);
  const Photograph reference(scene, {}, kWidth, kHeight);
  std::vector<Photograph> frames;
  for (int i = 0; i < 6; ++i) frames.emplace_back(scene, shifted(3.0 * i - 7, 5 - 2.0 * i, 0.01 * i), kWidth, kHeight);
  Photograph blink = reference, blurred = reference;
  std::fill(blink.pixels.begin(), blink.pixels.end(), std::uint8_t{0});
  for (std::uint8_t& pixel : blurred.pixels) pixel = 128;  // nothing is left of the vessels
  frames.push_back(blink);
  frames.push_back(blurred);

  FilterEngine engine;
  fastretina_model* model = load(engine);
  fastretina_session* session = nullptr;
  fastretina_prepared* prepared = nullptr;
  fastretina_transform* transform = nullptr;
  fastretina_result result;
  fastretina_result_init(&result);
  fastretina_options options = filter_options(2);
  options.max_attempts = 1;
  CHECK(fastretina_session_create(model, &options, &session) == FASTRETINA_SUCCESS);
  CHECK(fastretina_prepared_create(&prepared) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_create(&transform) == FASTRETINA_SUCCESS);
  const fastretina_image fixed = image_of(reference);
  CHECK(fastretina_prepare(session, &fixed, prepared) == FASTRETINA_SUCCESS);

  const auto show = [&](std::size_t i) {
    const fastretina_image image = image_of(frames[i]);
    CHECK(fastretina_register(session, prepared, &image, transform, &result) == FASTRETINA_SUCCESS);
    const bool bad = i >= frames.size() - 2;
    CHECK((result.status == FASTRETINA_STATUS_NO_CONTENT) == bad &&
          (fastretina_transform_kind(transform) == FASTRETINA_EMPTY) == bad);
  };
  show(0);
  show(0);  // the second of the warm-up: the best and the next candidate have changed places
  const long before = allocations;
  for (std::size_t i = 0; i < kFrames; ++i) show(i % frames.size());
  CHECK(allocations == before);
  CHECK(!COUNTS_ALLOCATIONS || before > 0);  // the hook works

  fastretina_transform_destroy(transform);
  fastretina_prepared_destroy(prepared);
  fastretina_session_destroy(session);
  fastretina_model_destroy(model);
  return 0;
}
