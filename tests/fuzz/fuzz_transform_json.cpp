// Any text: refused with a word, or a transform that writes itself back to the bit and whose functions answer.
#include <cstring>
#include <string>
#include <vector>

#include "capi/fastretina.hpp"
#include "check.h"

using fastretina::v1::Transform;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Transform t;
  if (fastretina_transform_from_json(reinterpret_cast<const char*>(data), size, t.get()) != FASTRETINA_SUCCESS) {
    CHECK(t.kind() == FASTRETINA_EMPTY && std::strlen(fastretina_last_error()) > 0);
    return 0;
  }
  const std::string text = t.to_json();
  const Transform again = Transform::from_json(text);
  CHECK(again.to_json() == text && again.kind() == t.kind() && again.parameters() == t.parameters());
  double points[] = {0, 0, 639.5, 479.5, -1e9, 1e-9};
  CHECK(fastretina_transform_points(t.get(), points, 3, points) == FASTRETINA_SUCCESS);
  Transform back;
  if (fastretina_transform_inverse(t.get(), back.get()) == FASTRETINA_SUCCESS)
    CHECK(fastretina_transform_points(back.get(), points, 3, points) == FASTRETINA_SUCCESS);
  return 0;
}
