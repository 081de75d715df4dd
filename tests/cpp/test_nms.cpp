// nms against its definition, on a strided, exactly sized map.
#include <algorithm>
#include <limits>
#include <vector>

#include "check.h"
#include "core/order.h"
#include "core/rng.h"
#include "core/simd.h"
#include "nms/nms.h"

using namespace fastretina;

namespace {

bool first_in_window(View<const float> map, int x, int y, int radius) {
  for (int v = std::max(y - radius, 0); v <= std::min(y + radius, map.height - 1); ++v)
    for (int u = std::max(x - radius, 0); u <= std::min(x + radius, map.width - 1); ++u)
      if (better(map.row(v)[u], v * map.width + u, map.row(y)[x], y * map.width + x)) return false;
  return true;
}

// An infinite score is the best one, as better() says.
void takes_infinity(const Context& context, Workspace& workspace) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> scores(40 * 30, -kInfinity), xy(200), score(100);
  for (std::size_t i = 0; i < scores.size(); i += 7) scores[i] = static_cast<float>(i % 91);
  scores[600] = scores[1000] = kInfinity;
  int count = -1;
  cpu::nms(context, workspace, View<const float>(scores.data(), 40, 30), {}, {2, 100, 0.0f},
           {xy.data(), score.data(), &count, 100});
  CHECK(count > 10 && score[0] == kInfinity && score[1] == kInfinity && score[2] < kInfinity);
  CHECK(xy[0] == 0 && xy[1] == 15 && xy[2] == 0 && xy[3] == 25);
  for (int i = 1; i < count; ++i) CHECK(score[static_cast<std::size_t>(i)] <= score[static_cast<std::size_t>(i - 1)]);
}

}  // namespace

int main() {
  const Context context(2);
  Workspace workspace;
  takes_infinity(context, workspace);
  for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512})
    for (int height = 0; height <= 70; height = 2 * height + 1)
      for (int width : {0, 1, 2, 5, 15, 16, 17, 33, 50})
        for (const int radius : {0, 1, 4, 7, 8, 20})
          for (const std::uint32_t values : {3u, 100000u}) {
            limit_simd_level(level);
            const std::ptrdiff_t stride = width + 5;
            std::vector<float> scores(height > 0 ? static_cast<std::size_t>(stride * (height - 1) + width) : 0);
            for (std::size_t i = 0; i < scores.size(); ++i)
              scores[i] = static_cast<float>(random_below(random_bits(4, values, i), values)) - 1.0f;
            const View<const float> map(scores.data(), width, height, stride);
            std::vector<float> xy(10000), score(5000);
            int count = -1;
            cpu::nms(context, workspace, map, {}, {radius, 5000, 0.0f}, {xy.data(), score.data(), &count, 5000});
            int expected = 0;
            for (int y = 0; y < height; ++y)
              for (int x = 0; x < width; ++x) expected += map.row(y)[x] > 0.0f && first_in_window(map, x, y, radius);
            CHECK(count == expected);
            for (int i = 0; i < count; ++i) {
              const int x = static_cast<int>(xy[static_cast<std::size_t>(2 * i)]);
              const int y = static_cast<int>(xy[static_cast<std::size_t>(2 * i + 1)]);
              const auto at = static_cast<std::size_t>(i);
              CHECK(score[at] > 0.0f && score[at] == map.row(y)[x] && first_in_window(map, x, y, radius));
              if (i > 0) {
                const int px = static_cast<int>(xy[2 * at - 2]), py = static_cast<int>(xy[2 * at - 1]);
                CHECK(better(score[at - 1], py * width + px, score[at], y * width + x));
              }
            }
          }
}
