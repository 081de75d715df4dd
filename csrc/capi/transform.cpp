// The transform's part of the C ABI.
#include <algorithm>
#include <cstring>
#include <string>

#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/transform_json.h"

using namespace fastretina;
using namespace fastretina::capi;

namespace {

const TransformSteps& steps_in(const fastretina_transform* transform) {
  const TransformSteps& steps = given(transform, "transform").steps;
  require(!steps.empty(), "transform", "an empty one", "a transform");
  return steps;
}

std::size_t parameter_count(const TransformSteps& steps) {
  const fastretina_kind kind = kind_of(steps);
  return kind >= FASTRETINA_DENSE ? 0 : kind == FASTRETINA_QUADRATIC ? 12 : 9;
}

}  // namespace

extern "C" {

fastretina_error fastretina_transform_create(fastretina_transform** transform) {
  return guarded([&] {
    given(transform, "transform");
    *transform = new fastretina_transform;
  });
}

void fastretina_transform_destroy(fastretina_transform* transform) { delete transform; }

fastretina_kind fastretina_transform_kind(const fastretina_transform* transform) {
  return transform == nullptr ? FASTRETINA_EMPTY : kind_of(transform->steps);
}

fastretina_error fastretina_transform_parameters(const fastretina_transform* transform, double* parameters,
                                                 size_t capacity, size_t* count) {
  return guarded([&] {
    const TransformSteps& steps = steps_in(transform);
    require(parameters != nullptr || capacity == 0, "parameters", "NULL", "a pointer");
    const std::size_t n = parameter_count(steps);
    std::copy_n(steps.list()[0].map.p, std::min(n, capacity), parameters);
    given(count, "count") = n;
  });
}

fastretina_error fastretina_transform_points(const fastretina_transform* transform, const double* moving, size_t count,
                                             double* fixed) {
  return guarded([&] {
    const TransformSteps& steps = steps_in(transform);
    require((moving != nullptr && fixed != nullptr) || count == 0, "points", "NULL", "a pointer");
    for (std::size_t i = 0; i < count; ++i) {
      const Point p = apply(steps, {moving[2 * i], moving[2 * i + 1]});
      fixed[2 * i] = p.x;
      fixed[2 * i + 1] = p.y;
    }
  });
}

fastretina_error fastretina_transform_inverse(const fastretina_transform* transform, fastretina_transform* inverse) {
  return guarded([&] {
    given(inverse, "inverse");
    inverse->steps = fastretina::capi::inverse(steps_in(transform));
  });
}

fastretina_error fastretina_transform_to_json(const fastretina_transform* transform, char* text, size_t capacity,
                                              size_t* size) {
  return guarded([&] {
    const std::string json = write_json(steps_in(transform));
    given(size, "size");
    require(text != nullptr || capacity == 0, "text", "NULL", "a pointer");
    require(capacity == 0 || capacity > json.size(), "capacity", std::to_string(capacity),
            "more than the size of the text");
    if (capacity > 0) std::memcpy(text, json.c_str(), json.size() + 1);
    *size = json.size();
  });
}

fastretina_error fastretina_transform_from_json(const char* text, size_t size, fastretina_transform* transform) {
  return guarded([&] {
    given(transform, "transform").steps.clear();
    transform->steps = read_json(std::string_view(&given(text, "text"), size));
  });
}

}  // extern "C"
