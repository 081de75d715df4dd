// image at odd sizes, types and channels: in bounds (exact-size buffers, for the sanitizers), and the same bits at
// every SIMD level and thread count.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/rng.h"
#include "core/simd.h"
#include "image/image.h"

using namespace fastretina;

namespace {

struct Result {
  std::vector<float> plane, gray;
  std::vector<std::uint8_t> mask;
  float contrast = -1;
  bool operator==(const Result&) const = default;
};

template <class T>
std::vector<T> pixels(int width, int height, int channels, float scale) {
  std::vector<T> image(static_cast<std::size_t>(width) * height * channels);
  for (std::size_t i = 0; i < image.size(); ++i) {
    const int x = static_cast<int>(i) / channels % width, y = static_cast<int>(i) / channels / width;
    const bool inside = std::hypot(x - width / 2, y - height / 2) < 0.45 * std::max(width, height);
    const auto noise = static_cast<float>(random_below(random_bits(1, 2, i), 60));
    image[i] = static_cast<T>((inside ? 100 + noise : 0) * scale);
  }
  return image;
}

Result run(int threads, const Image& input, const ImageOptions& options) {
  const Context context(threads);
  Workspace workspace;
  const ImageGeometry g = image_geometry({input.width, input.height}, options);
  Result r;
  const auto plane = static_cast<std::size_t>(g.plane.width) * g.plane.height;
  r.plane.assign(plane, NAN);
  r.mask.assign(plane, 7);
  r.gray.assign(static_cast<std::size_t>(g.content.width) * g.content.height, NAN);
  const NetworkImage out{{r.plane.data(), g.plane.width, g.plane.height},
                         {r.mask.data(), g.plane.width, g.plane.height},
                         {r.gray.data(), g.content.width, g.content.height},
                         &r.contrast};
  cpu::image(context, workspace, input, g, options, out);
  return r;
}

template <class T>
void check(PixelType type, int width, int height, int channels, float scale, int working_size) {
  const auto data = pixels<T>(width, height, channels, scale);
  Image input;
  input.data = data.data();
  input.width = width;
  input.height = height;
  input.channels = channels;
  input.row_bytes = static_cast<std::ptrdiff_t>(sizeof(T)) * width * channels;
  input.type = type;
  ImageOptions options;
  options.working_size = working_size;
  limit_simd_level(SimdLevel::scalar);
  const Result expected = run(1, input, options);
  bool any = false;
  for (std::size_t i = 0; i < expected.plane.size(); ++i) {
    CHECK(expected.mask[i] <= 1 && std::fabs(expected.plane[i]) <= options.clip);
    any |= expected.mask[i] == 1 && expected.plane[i] != 0;
  }
  CHECK(any && expected.contrast > 0.01f);
  for (int level = 0; level <= 3; ++level) {
    limit_simd_level(static_cast<SimdLevel>(level));
    for (int threads = 1; threads <= 3; ++threads) CHECK(run(threads, input, options) == expected);
  }
}

void check_misuse() {
  const std::vector<float> data(64 * 64, NAN);
  Image input;
  input.data = data.data();
  input.width = input.height = 64;
  input.row_bytes = 256;
  input.type = PixelType::f32;
  bool thrown = false;
  try {
    run(1, input, {});
  } catch (const InvalidArgument&) {
    thrown = true;
  }
  CHECK(thrown);
}

}  // namespace

int main() {
  for (const int working_size : {64, 67, 129, 200})
    for (const int channels : {1, 3}) {
      check<std::uint8_t>(PixelType::u8, 131, 97, channels, 1, working_size);
      check<std::uint16_t>(PixelType::u16, 64, 333, channels, 16, working_size);
      check<float>(PixelType::f32, 65, 64, channels, 1.f / 255, working_size);
    }
  check_misuse();
}
