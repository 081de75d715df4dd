// The rooms behind plain C functions on pointers and a stream, so that the Python process that holds torch can time them
// on torch's memory: on a GPU the CUDA twins, in a CPU build the CPU twins. For benchmarks/gpu_suite.py alone.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

#include "core/backend.h"
#include "pipeline_cuda.h"
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

// The first rung of a pair of gray uint8 images (csrc/pipeline_cuda.h). NULL: see rooms_error().
EXPORT void* rooms_pair_create(const void* fixed, int fixed_height, int fixed_width, const void* moving,
                               int moving_height, int moving_width, int working_size, int max_keypoints, int multiple,
                               int dims) {
  try {
    Options options;
    options.features.image.working_size = working_size;
    options.features.detect.max_keypoints = max_keypoints;
    const Image a{fixed, fixed_width, fixed_height, 1, fixed_width, PixelType::u8};
    const Image b{moving, moving_width, moving_height, 1, moving_width, PixelType::u8};
    auto pair = cuda::make_device_pair(a, b, options, multiple, dims);
    if (!pair) last_error = "no CUDA twins in this build";
    return pair.release();
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}
EXPORT void rooms_pair_destroy(void* pair) { delete static_cast<cuda::DevicePair*>(pair); }

// -> address, height, width; then address and bytes of the findings.
EXPORT void rooms_pair_memory(void* pair, int image, std::int64_t* values) {
  const auto& p = *static_cast<cuda::DevicePair*>(pair);
  const View<const float> plane = p.plane(image);
  values[0] = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(plane.data));
  values[1] = plane.height, values[2] = plane.width;
  values[3] = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p.findings()));
  values[4] = static_cast<std::int64_t>(p.findings_bytes());
}

// values: of FIXED, then of MOVING: addresses of difference and descriptors, strides of these (c, y, x).
EXPORT int rooms_pair_queue(void* rooms, void* stream, void* pair, int dims, const std::int64_t* values) {
  return guarded(rooms, stream, [&](Rooms&) {
    auto& p = *static_cast<cuda::DevicePair*>(pair);
    if (values == nullptr) return p.look(stream);
    const auto output = [&](int image) {
      const std::int64_t* v = values + 5 * image;
      const auto at = [](std::int64_t address) {
        return reinterpret_cast<const float*>(static_cast<std::uintptr_t>(address));
      };
      const int h = p.plane(image).height / 4, w = p.plane(image).width / 4;
      return NetworkOutput{{at(v[0]), w, h}, {at(v[1]), dims, h, w, v[2], v[3], v[4]}};
    };
    p.solve(stream, output(0), output(1));
  });
}

// -> p[12], then kind, found, confidence, whether the first rung is the answer.
EXPORT int rooms_pair_read(void* rooms, void* stream, void* pair, std::byte* findings, double* values) {
  return guarded(rooms, stream, [&](Rooms&) {
    auto& p = *static_cast<cuda::DevicePair*>(pair);
    const Candidate& best = p.read(findings).best;
    for (int i = 0; i < 12; ++i) values[i] = best.T_fixed_moving.p[i];
    values[12] = static_cast<int>(best.T_fixed_moving.kind);
    values[13] = best.found, values[14] = best.quality.confidence, values[15] = p.strong();
  });
}
