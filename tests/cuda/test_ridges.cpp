// ridges: the same bytes and points as on the CPU, at odd sizes.
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

void check(Device& device, int width, int height, const RidgeOptions& options) {
  const auto size = static_cast<std::size_t>(width * height);
  std::vector<float> plane(size);
  std::vector<std::uint8_t> mask(size);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const auto at = static_cast<std::size_t>(y * width + x);
      mask[at] = std::hypot(x - width / 2, y - height / 2) < 0.48 * std::max(width, height);
      const auto noise = static_cast<float>(random_below(random_bits(4, 0, at), 100)) / 400;
      plane[at] = mask[at] ? noise + static_cast<float>(std::sin(0.3 * x) * std::cos(0.2 * y + 0.05 * x)) : 0.0f;
    }
  const Context context(1);
  Workspace workspace;
  const std::size_t bytes = ridge_map_bytes({width, height}, options);
  std::vector<std::uint64_t> memory(bytes / 8 + 16);
  auto* base = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64);
  const RidgeMap expected = lay_out({width, height}, options, base);
  cpu::ridges(context, workspace, {plane.data(), width, height}, {mask.data(), width, height}, options, expected);

  const Array<std::byte> device_memory(bytes + 64);
  auto* device_base =
      reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(device_memory.data()) + 63) / 64 * 64);
  const Array<float> device_plane(plane);
  const Array<std::uint8_t> device_mask(mask);
  cuda_backend()->ridges(device.context, device.workspace, View<const float>(device_plane.data(), width, height),
                         View<const std::uint8_t>(device_mask.data(), width, height), options,
                         lay_out({width, height}, options, device_base));
  const std::vector<std::byte> all = device_memory.get();
  const std::byte* got_base = all.data() + (device_base - device_memory.data());
  const auto same = [&](const void* part, std::size_t part_bytes) {
    const auto* begin = static_cast<const std::byte*>(part);
    return std::memcmp(begin, got_base + (begin - base), part_bytes) == 0;
  };
  CHECK(same(expected.count, sizeof(int)));
  for (const View<RidgePixel>& level : expected.level)
    CHECK(same(level.data, static_cast<std::size_t>(level.width * level.height) * sizeof(RidgePixel)));
  CHECK(same(expected.points, static_cast<std::size_t>(*expected.count) * 2 * sizeof(float)));
}

}  // namespace

int main() {
  Device device;
  for (const auto& [width, height] : {std::pair{1, 1}, {2, 3}, {5, 4}, {9, 1}, {64, 48}, {101, 77}})
    check(device, width, height, {});
  check(device, 96, 90, {.sigma_px = 0.5f, .rim_px = 0, .max_points = 50});
  check(device, 80, 70, {.sigma_px = 9.5f, .saturation = 2.0f, .rim_px = 20, .max_points = 0});
}
