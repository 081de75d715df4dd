// describe: the same bits as on the CPU, for any memory order and any number of points.
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

int main() {
  Device device;
  const Context context(1);
  Workspace workspace;
  for (const int dims : {1, 5, 16, 33, 128})
    for (const auto& [width, height] : {std::pair{1, 1}, {2, 5}, {9, 7}})
      for (const int count : {0, 1, 2, 5, 37})
        for (const bool innermost : {true, false}) {
          std::vector<float> values(static_cast<std::size_t>(dims * width * height));
          for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<float>(random_below(random_bits(1, 0, i), 2001)) / 1000 - 1;
          std::vector<float> xy(80);
          for (std::size_t i = 0; i < xy.size(); ++i)
            xy[i] = static_cast<float>(random_below(random_bits(2, 0, i), 500)) / 10 - 5;
          if (count > 1) std::fill(values.begin(), values.begin() + dims, 0.0f);
          const Array<float> map(values), device_xy(xy), device_rows(static_cast<std::size_t>(40 * dims));
          const Array<int> device_count(std::vector<int>{count});
          DenseMap dense{values.data(), dims, height, width, 1, width * dims, dims};
          if (!innermost) dense.stride_c = width * height, dense.stride_y = width, dense.stride_x = 1;
          std::vector<float> expected(static_cast<std::size_t>(40 * dims));
          int host_count = count;
          cpu::describe(context, workspace, dense, {xy.data(), nullptr, &host_count, 40}, expected.data());
          dense.data = map.data();
          cuda_backend()->describe(device.context, device.workspace, dense,
                                   {device_xy.data(), nullptr, device_count.data(), 40}, device_rows.data());
          std::vector<float> got = device_rows.get();
          got.resize(static_cast<std::size_t>(count * dims)), expected.resize(got.size());
          CHECK(same_bits(got, expected));
        }
}
