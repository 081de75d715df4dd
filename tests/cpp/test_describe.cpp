// describe in every memory order, at odd sizes: in bounds, unit rows, the same bits at every SIMD level.
#include <cmath>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "core/simd.h"
#include "describe/describe.h"

using namespace fastretina;

namespace {

std::vector<float> run(int threads, const DenseMap& map, std::vector<float> xy) {
  const Context context(threads);
  Workspace workspace;
  int count = static_cast<int>(xy.size() / 2);
  Keypoints keypoints;
  keypoints.xy = xy.data();
  keypoints.count = &count;
  keypoints.capacity = count;
  std::vector<float> rows(static_cast<std::size_t>(count) * map.dims);
  cpu::describe(context, workspace, map, keypoints, rows.data());
  return rows;
}

void check(int dims, int height, int width, int points) {
  const auto cells = static_cast<std::size_t>(height) * width;
  std::vector<float> planar(cells * dims), interleaved(cells * dims), xy(2 * static_cast<std::size_t>(points));
  for (std::size_t i = 0; i < planar.size(); ++i) {
    planar[i] = static_cast<float>(random_below(random_bits(1, 1, i), 2001)) / 1000 - 1;
    interleaved[i % cells * dims + i / cells] = planar[i];
  }
  for (std::size_t i = 0; i < xy.size(); ++i)
    xy[i] = static_cast<float>(random_below(random_bits(1, 2, i), 1000u * (4 * width + 8))) / 1000 - 4;
  const DenseMap nchw{planar.data(), dims, height, width, static_cast<std::ptrdiff_t>(cells), width, 1};
  const DenseMap nhwc{interleaved.data(), dims, height, width, 1, static_cast<std::ptrdiff_t>(dims) * width, dims};
  limit_simd_level(SimdLevel::scalar);
  const auto expected = run(1, nchw, xy);
  for (int i = 0; i < points; ++i) {
    double norm = 0;
    for (int k = 0; k < dims; ++k) norm += std::pow(expected[static_cast<std::size_t>(i) * dims + k], 2);
    CHECK(std::fabs(norm - 1) < 1e-5);
  }
  for (int level = 0; level <= 3; ++level) {
    limit_simd_level(static_cast<SimdLevel>(level));
    for (int threads = 1; threads <= 3; ++threads) {
      CHECK(run(threads, nchw, xy) == expected);
      CHECK(run(threads, nhwc, xy) == expected);
    }
  }
}

}  // namespace

int main() {
  for (const int dims : {1, 15, 16, 17, 128})
    for (const int points : {0, 1, 5, 16, 17, 100}) {
      check(dims, 1, 1, points);
      check(dims, 2, 3, points);
      check(dims, 19, 23, points);
    }
}
