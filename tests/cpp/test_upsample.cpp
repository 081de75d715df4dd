// upsample: same bits at every SIMD level and for a strided, exactly sized output.
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "core/simd.h"
#include "upsample/upsample.h"

using namespace fastretina;

int main() {
  const Context context(2);
  Workspace workspace;
  for (int height = 0; height <= 21; height += 3)
    for (int width = 0; width <= 20; ++width) {
      std::vector<float> cells(static_cast<std::size_t>(width * height));
      for (std::size_t i = 0; i < cells.size(); ++i)
        cells[i] = static_cast<float>(random_below(random_bits(3, 0, i), 1000));
      const View<const float> source(cells.data(), width, height);
      // The strided output ends with the last pixel, not with the last row's stride.
      const std::size_t w = static_cast<std::size_t>(4 * width), h = static_cast<std::size_t>(4 * height),
                        stride = w + 3;
      std::vector<float> packed(w * h), strided(h > 0 ? stride * (h - 1) + w : 0, -1.0f);
      limit_simd_level(SimdLevel::scalar);
      cpu::upsample(context, workspace, source, View<float>(packed.data(), 4 * width, 4 * height));
      for (const SimdLevel level : {SimdLevel::avx2, SimdLevel::avx512}) {
        limit_simd_level(level);
        cpu::upsample(context, workspace, source,
                      View<float>(strided.data(), 4 * width, 4 * height, static_cast<std::ptrdiff_t>(stride)));
        for (std::size_t y = 0; y < h; ++y)
          for (std::size_t x = 0; x < stride && y * stride + x < strided.size(); ++x)
            CHECK(strided[y * stride + x] == (x < w ? packed[y * w + x] : -1.0f));
      }
    }
}
