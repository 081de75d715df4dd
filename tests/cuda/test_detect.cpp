// upsample, nms and detect: the same bits as on the CPU.
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

std::vector<float> random_map(int width, int height, std::uint32_t levels, std::uint64_t seed) {
  std::vector<float> map(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (std::size_t i = 0; i < map.size(); ++i)
    map[i] =
        (static_cast<float>(random_below(random_bits(seed, 0, i), levels)) / static_cast<float>(levels) - 0.5f) * 12;
  return map;
}

struct Found {
  std::vector<float> xy, score;
  int count = 0;
};

Found host_found(int capacity) {
  return {std::vector<float>(static_cast<std::size_t>(2 * capacity)),
          std::vector<float>(static_cast<std::size_t>(capacity)), -1};
}

void check_same(const Found& expected, const Array<float>& xy, const Array<float>& score, int count) {
  CHECK(count == expected.count);
  const std::vector<float> got_xy = xy.get(), got_score = score.get();
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    CHECK(got_xy[2 * i] == expected.xy[2 * i] && got_xy[2 * i + 1] == expected.xy[2 * i + 1]);
    CHECK(got_score[i] == expected.score[i]);
  }
}

// Either room, by its CPU and its CUDA twin.
template <class Cpu, class Cuda>
void compare(Cpu run_cpu, Cuda run_cuda, const std::vector<float>& map, Size map_size, Size out_size,
             const NmsOptions& options, bool masked) {
  static Device device;
  static const Context context(1);
  static Workspace workspace;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(out_size.width) * static_cast<std::size_t>(out_size.height));
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = random_below(random_bits(9, 0, i), 4) != 0;
  Found expected = host_found(options.max_keypoints);
  const View<const std::uint8_t> none, host_mask(mask.data(), out_size.width, out_size.height);
  run_cpu(context, workspace, View<const float>(map.data(), map_size.width, map_size.height), masked ? host_mask : none,
          options, Keypoints{expected.xy.data(), expected.score.data(), &expected.count, options.max_keypoints});

  const Array<float> device_map(map), xy(expected.xy.size()), score(expected.score.size());
  const Array<std::uint8_t> device_mask(mask);
  const Array<int> count(1);
  const View<const std::uint8_t> device_view(device_mask.data(), out_size.width, out_size.height);
  run_cuda(device.context, device.workspace, View<const float>(device_map.data(), map_size.width, map_size.height),
           masked ? device_view : none, options,
           Keypoints{xy.data(), score.data(), count.data(), options.max_keypoints});
  check_same(expected, xy, score, count.value());
}

void upsample_is_the_same(Device& device) {
  const Context context(1);
  Workspace workspace;
  for (const auto& [width, height] :
       {std::pair{0, 3}, {1, 1}, {2, 1}, {1, 5}, {3, 2}, {4, 4}, {5, 5}, {33, 9}, {40, 17}}) {
    const std::vector<float> map = random_map(width, height, 1000, 3);
    std::vector<float> expected(map.size() * 16);
    cpu::upsample(context, workspace, {map.data(), width, height}, {expected.data(), 4 * width, 4 * height});
    const Array<float> from(map), to(expected.size());
    cuda_backend()->upsample(device.context, device.workspace, View<const float>(from.data(), width, height),
                             View<float>(to.data(), 4 * width, 4 * height));
    CHECK(same_bits(to.get(), expected));
  }
}

void key_points_are_the_same() {
  const Backend& gpu = *cuda_backend();
  std::uint64_t seed = 0;
  for (const int radius : {0, 1, 2, 3, 4, 5, 8, 9, 12, 13, 20})
    for (const auto& [width, height] : {std::pair{0, 0}, {1, 1}, {2, 3}, {4, 1}, {5, 5}, {21, 18}, {35, 34}})
      for (const std::uint32_t levels : {2u, 7u, 100000u}) {  // ties, many ties, none
        const NmsOptions options{radius, levels == 7 ? 5 : 3000, levels == 2 ? -1.0f : -4.0f};
        const std::vector<float> map = random_map(width, height, levels, ++seed);
        compare(cpu::detect, gpu.detect, map, {width, height}, {4 * width, 4 * height}, options, seed % 2 == 0);
        compare(cpu::nms, gpu.nms, map, {width, height}, {width, height}, options, seed % 2 == 0);
      }
}

void a_flat_map_has_one_order() {  // every score in one bucket
  const std::vector<float> map(40 * 40, 1.0f);
  for (const int radius : {0, 4})
    compare(cpu::detect, cuda_backend()->detect, map, {40, 40}, {160, 160}, {radius, 8192, 0.0f}, true);
}

void misuse_is_named(Device& device) {
  bool refused = false;
  const Array<int> count(1);
  try {
    cuda_backend()->detect(device.context, device.workspace, {}, {}, {.radius = 256},
                           Keypoints{nullptr, nullptr, count.data(), 1000});
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

}  // namespace

int main() {
  Device device;
  upsample_is_the_same(device);
  key_points_are_the_same();
  a_flat_map_has_one_order();
  misuse_is_named(device);
}
