// The rooms behind plain C functions on pointers and a stream, so that the Python process that holds torch can time them
// on torch's memory: on a GPU the CUDA twins, in a CPU build the CPU twins. For benchmarks/gpu_suite.py alone.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

#include "core/backend.h"
#ifdef FASTRETINA_CUDA
#include "core/cuda.h"
#endif

using namespace fastretina;

namespace {

struct Rooms {
  Context context;
#ifdef FASTRETINA_CUDA
  Workspace workspace{cuda::device_memory()};
  const Backend& table = *cuda_backend();
#else
  Workspace workspace;
  const Backend& table = cpu_backend();
#endif
};

std::string last_error;

template <class Body>
int guarded(void* rooms, void* stream, Body&& body) {
  try {
    auto& at = *static_cast<Rooms*>(rooms);
    at.context.stream = stream;
    body(at);
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* rooms_error() { return last_error.c_str(); }
EXPORT void* rooms_create() {
  try {
    return new Rooms;
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}
EXPORT void rooms_destroy(void* rooms) { delete static_cast<Rooms*>(rooms); }
EXPORT const char* rooms_backend(void* rooms) { return static_cast<Rooms*>(rooms)->table.name; }

// Whether there is a twin of: 0 image, 1 detect, 2 describe, 3 match, 4 estimate, 5 refine.
EXPORT int rooms_has(void* rooms, int room) {
  const Backend& t = static_cast<Rooms*>(rooms)->table;
  const bool has[] = {t.image != nullptr, t.detect != nullptr,   t.describe != nullptr,
                      t.match != nullptr, t.estimate != nullptr, t.refine != nullptr};
  return room >= 0 && room < 6 && has[room];
}

// Gray uint8 (height, width), both multiples of 8 -> plane and mask of the same size.
EXPORT int rooms_image(void* rooms, void* stream, const std::uint8_t* gray, int height, int width, float* plane,
                       std::uint8_t* mask, float* contrast) {
  return guarded(rooms, stream, [&](Rooms& at) {
    ImageOptions options;
    options.working_size = height > width ? height : width;
    const Image image{gray, width, height, 1, width, PixelType::u8};
    const NetworkImage out{{plane, width, height}, {mask, width, height}, {}, contrast};
    at.table.image(at.context, at.workspace, image, image_geometry({width, height}, options), options, out);
  });
}

EXPORT int rooms_detect(void* rooms, void* stream, const float* difference, int height, int width,
                        const std::uint8_t* mask, int radius, int max_keypoints, double threshold, float* xy,
                        float* score, int* count) {
  return guarded(rooms, stream, [&](Rooms& at) {
    const View<const std::uint8_t> allowed = mask ? View<const std::uint8_t>(mask, 4 * width, 4 * height)
                                                  : View<const std::uint8_t>();
    const NmsOptions options{radius, max_keypoints, static_cast<float>(threshold)};
    at.table.detect(at.context, at.workspace, {difference, width, height}, allowed, options,
                    {xy, score, count, max_keypoints});
  });
}

// dense: (dims, height, width).
EXPORT int rooms_describe(void* rooms, void* stream, const float* dense, int dims, int height, int width, float* xy,
                          float* score, int* count, int capacity, float* rows) {
  return guarded(rooms, stream, [&](Rooms& at) {
    const DenseMap map{dense, dims, height, width, std::ptrdiff_t{height} * width, width, 1};
    at.table.describe(at.context, at.workspace, map, {xy, score, count, capacity}, rows);
  });
}

EXPORT int rooms_match(void* rooms, void* stream, const float* fixed, const int* fixed_count, const float* moving,
                       const int* moving_count, int capacity, int dims, int precision, int* fixed_row, int* moving_row,
                       float* score, int* count) {
  return guarded(rooms, stream, [&](Rooms& at) {
    MatchOptions options;
    options.precision = static_cast<Precision>(precision);
    at.table.match(at.context, at.workspace, {fixed, fixed_count, capacity, dims}, {moving, moving_count, capacity, dims},
                   options, {fixed_row, moving_row, score, count, capacity});
  });
}

EXPORT int rooms_estimate_size() { return static_cast<int>(sizeof(Estimate)); }

// out: rooms_estimate_size() bytes, read by rooms_estimate_read once they are on the host.
EXPORT int rooms_estimate(void* rooms, void* stream, const float* fixed_xy, const float* moving_xy, const int* count,
                          int capacity, int kind, int max_iterations, double confidence, void* out) {
  return guarded(rooms, stream, [&](Rooms& at) {
    EstimateOptions options;
    options.kind = static_cast<TransformKind>(kind);
    options.max_iterations = max_iterations;
    options.confidence = confidence;
    options.sorted = false;
    at.table.estimate(at.context, at.workspace, {fixed_xy, moving_xy, nullptr, count, capacity}, options,
                      static_cast<Estimate*>(out), nullptr);
  });
}

// -> p[12], then found, inliers, iterations.
EXPORT void rooms_estimate_read(const void* host, double* values) {
  const auto& estimate = *static_cast<const Estimate*>(host);
  for (int i = 0; i < 12; ++i) values[i] = estimate.T_fixed_moving.p[i];
  values[12] = estimate.found;
  values[13] = estimate.inliers;
  values[14] = estimate.iterations;
}
