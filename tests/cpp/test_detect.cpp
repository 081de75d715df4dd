// upsample, nms and detect on every small size: detect is the two rooms one after the other, bit for bit.
#include <algorithm>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "core/simd.h"
#include "detect/detect.h"
#include "upsample/upsample.h"

using namespace fastretina;

namespace {

struct Found {
  explicit Found(int capacity)
      : xy(2 * static_cast<std::size_t>(capacity)), score(static_cast<std::size_t>(capacity)) {}
  Keypoints keypoints() { return {xy.data(), score.data(), &count, static_cast<int>(score.size())}; }
  bool operator==(const Found& other) const {
    const auto n = static_cast<std::ptrdiff_t>(count);
    return count == other.count && std::equal(xy.begin(), xy.begin() + 2 * n, other.xy.begin()) &&
           std::equal(score.begin(), score.begin() + n, other.score.begin());
  }
  std::vector<float> xy, score;
  int count = -1;
};

// Exactly as large as it must be, so that a sanitizer sees a step outside.
std::vector<float> cells(int n, bool tied) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) {
    const auto bits = random_bits(1, tied, static_cast<std::uint64_t>(i));
    values[static_cast<std::size_t>(i)] = tied ? static_cast<float>(random_below(bits, 3)) - 1.0f
                                               : static_cast<float>(random_below(bits, 20001)) * 1e-4f - 1.0f;
  }
  return values;
}

void compare(const Context& context, Workspace& workspace, int width, int height, int radius, bool tied) {
  const std::vector<float> difference = cells(width * height, tied);
  const View<const float> source(difference.data(), width, height);
  std::vector<float> big(static_cast<std::size_t>(16 * width * height));
  const View<float> confidence(big.data(), 4 * width, 4 * height);
  std::vector<std::uint8_t> allowed(big.size());
  for (std::size_t i = 0; i < allowed.size(); ++i) allowed[i] = random_below(random_bits(2, 0, i), 4) != 0;

  for (const bool masked : {false, true}) {
    const View<const std::uint8_t> mask =
        masked ? View<const std::uint8_t>(allowed.data(), 4 * width, 4 * height) : View<const std::uint8_t>();
    const NmsOptions options{radius, 37, 0.1f};
    Found separate(options.max_keypoints), fused(options.max_keypoints);
    cpu::upsample(context, workspace, source, confidence);
    cpu::nms(context, workspace, confidence, mask, options, separate.keypoints());
    cpu::detect(context, workspace, source, mask, options, fused.keypoints());
    CHECK(separate.count >= 0 && separate.count <= options.max_keypoints);
    CHECK(separate == fused);
  }
}

}  // namespace

int main() {
  for (const SimdLevel level : {SimdLevel::avx512bf16, SimdLevel::avx2, SimdLevel::scalar}) {
    limit_simd_level(level);
    for (const int threads : {1, 3}) {
      const Context context(threads);
      Workspace workspace;
      for (const bool tied : {false, true}) {
        for (int height = 0; height <= 6; ++height)
          for (int width = 0; width <= 9; ++width)
            for (const int radius : {0, 1, 4, 9}) compare(context, workspace, width, height, radius, tied);
        compare(context, workspace, 37, 101, 4, tied);
        compare(context, workspace, 70, 53, 5, tied);
        compare(context, workspace, 12, 110, 23, tied);
      }
    }
  }

  // An impulse at cell (2, 1): four equal pixels around (9.5, 5.5), the first of which wins.
  limit_simd_level(SimdLevel::avx512bf16);
  std::vector<float> impulse(20);
  impulse[7] = 512;
  Workspace workspace;
  Found found(5);
  cpu::detect(Context(1), workspace, View<const float>(impulse.data(), 5, 4), {}, {4, 5, 0.0f}, found.keypoints());
  CHECK(found.count == 1 && found.xy[0] == 9 && found.xy[1] == 5);
}
