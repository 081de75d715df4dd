// image and gray: the same bits as on the CPU, at odd sizes, for every pixel type, field of view and polarity of scale.
#include <cmath>
#include <cstring>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

enum class Scene { disc, grey_surround, stripes, black, blue };

template <class T>
std::vector<T> pixels(int width, int height, int channels, float scale, Scene scene) {
  std::vector<T> image(static_cast<std::size_t>(width * height * channels));
  for (std::size_t i = 0; i < image.size(); ++i) {
    const int at = static_cast<int>(i), x = at / channels % width, y = at / channels / width;
    const bool disc = std::hypot(x - width / 2, y - height / 2) < 0.45 * std::max(width, height);
    // Dark combs that hang together with the frame, and dark islands that do not.
    const bool stripe = (y % 16 < 3 && x > 8) || (x % 23 < 2 && y % 16 > 5 && y % 16 < 12);
    const auto noise = static_cast<float>(random_below(random_bits(1, 2, i), 60));
    float v = disc ? 100 + noise : scene == Scene::grey_surround ? 20 + noise / 30 : 0;
    if (scene == Scene::stripes) v = stripe ? 0 : 100 + noise;
    if (scene == Scene::black) v = 0;
    if (scene == Scene::blue && i % 3 != 2) v = 0;
    image[i] = static_cast<T>(v * scale);
  }
  return image;
}

Array<std::uint8_t> upload(const void* data, std::size_t bytes) {
  const auto* begin = static_cast<const std::uint8_t*>(data);
  return Array<std::uint8_t>(std::vector<std::uint8_t>(begin, begin + bytes));
}

template <class T>
void check(Device& device, PixelType type, int width, int height, int channels, float scale, int working_size,
           Scene scene) {
  const std::vector<T> data = pixels<T>(width, height, channels, scale, scene);
  Image input{data.data(), width, height, channels, static_cast<std::ptrdiff_t>(sizeof(T)) * width * channels, type};
  ImageOptions options;
  options.working_size = working_size;
  options.erode_px = working_size % 5;
  const ImageGeometry g = image_geometry({width, height}, options);
  const auto plane_size = static_cast<std::size_t>(g.plane.width * g.plane.height);
  const auto content_size = static_cast<std::size_t>(g.content.width * g.content.height);
  const Context context(1);
  Workspace workspace;
  std::vector<float> plane(plane_size), gray(content_size);
  std::vector<std::uint8_t> mask(plane_size);
  float contrast = -1;
  cpu::image(context, workspace, input, g, options,
             {{plane.data(), g.plane.width, g.plane.height},
              {mask.data(), g.plane.width, g.plane.height},
              {gray.data(), g.content.width, g.content.height},
              &contrast});

  const Array<std::uint8_t> device_input = upload(data.data(), data.size() * sizeof(T));
  const Array<float> device_plane(plane_size), device_gray(content_size), device_contrast(1), second_gray(content_size);
  const Array<std::uint8_t> device_mask(plane_size);
  input.data = device_input.data();
  cuda_backend()->image(device.context, device.workspace, input, g, options,
                        {{device_plane.data(), g.plane.width, g.plane.height},
                         {device_mask.data(), g.plane.width, g.plane.height},
                         {device_gray.data(), g.content.width, g.content.height},
                         device_contrast.data()});
  cuda_backend()->gray(device.context, device.workspace, input, g, options,
                       {second_gray.data(), g.content.width, g.content.height});
  CHECK(same_bits(device_gray.get(), gray));
  CHECK(same_bits(second_gray.get(), gray));
  CHECK(same_bits(device_mask.get(), mask));
  CHECK(same_bits(device_plane.get(), plane));
  CHECK(device_contrast.value() == contrast);
}

void bad_values_leave_no_contrast(Device& device) {
  for (const float bad : {NAN, 1.5f, -0.1f, HUGE_VALF}) {
    std::vector<float> data(64 * 70, 0.5f);
    data[1234] = bad;
    const Array<float> input(data), plane(64 * 72), contrast(1);
    const Array<std::uint8_t> mask(64 * 72);
    ImageOptions options;
    options.working_size = 70;
    const ImageGeometry g = image_geometry({64, 70}, options);
    CHECK(g.plane.width == 64 && g.plane.height == 72);
    cuda_backend()->image(device.context, device.workspace,
                          {input.data(), 64, 70, 1, 64 * sizeof(float), PixelType::f32}, g, options,
                          {{plane.data(), 64, 72}, {mask.data(), 64, 72}, {}, contrast.data()});
    CHECK(std::isnan(contrast.value()));
  }
}

void says_what_is_missing() {
  for (const cudaError_t status : {cudaErrorNoDevice, cudaErrorInsufficientDriver}) try {
      cuda::check(status, "a call");
      CHECK(false);
    } catch (const EngineError& error) {
      CHECK(std::strstr(error.what(), "a call") != nullptr && std::strstr(error.what(), "remedy: an NVIDIA GPU") != nullptr);
    }
}

}  // namespace

int main() {
  says_what_is_missing();
  Device device;
  check<std::uint8_t>(device, PixelType::u8, 131, 97, 3, 1, 80, Scene::disc);
  check<std::uint8_t>(device, PixelType::u8, 90, 120, 1, 1, 120, Scene::stripes);
  check<std::uint8_t>(device, PixelType::u8, 150, 75, 3, 1, 141, Scene::blue);
  check<std::uint8_t>(device, PixelType::u8, 101, 99, 1, 1, 64, Scene::grey_surround);
  check<std::uint8_t>(device, PixelType::u8, 64, 64, 3, 1, 96, Scene::black);
  check<std::uint16_t>(device, PixelType::u16, 77, 64, 1, 6, 100, Scene::disc);
  check<std::uint16_t>(device, PixelType::u16, 66, 130, 3, 300, 72, Scene::stripes);
  check<float>(device, PixelType::f32, 128, 96, 1, 1.f / 160, 96, Scene::grey_surround);
  check<float>(device, PixelType::f32, 70, 90, 3, 1.f / 200, 133, Scene::disc);
  bad_values_leave_no_contrast(device);
}
