// The room `describe` on the CPU.
#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/target.h"
#include "describe/describe.h"
#include "describe/describe_math.h"

namespace fastretina::cpu {
namespace {

using namespace describe_math;

constexpr int kPointsPerChunk = 64;

// Where a key point's four cells start in the map, and their weights.
struct Sample {
  std::ptrdiff_t a, b, c, d;
  Weights weights;
};

Sample locate(const DenseMap& map, float x, float y) {
  const Cells cx = cells_around(x, map.width), cy = cells_around(y, map.height);
  return {cy.low * map.stride_y + cx.low * map.stride_x, cy.low * map.stride_y + cx.high * map.stride_x,
          cy.high * map.stride_y + cx.low * map.stride_x, cy.high * map.stride_y + cx.high * map.stride_x,
          weights_of(cx.fraction, cy.fraction)};
}

FR_INLINE void mix_channels_body(const DenseMap& map, const Sample& s, float* row) {
  const float *a = map.data + s.a, *b = map.data + s.b, *c = map.data + s.c, *d = map.data + s.d;
  const Weights w = s.weights;
  if (map.stride_c == 1) {
    for (int k = 0; k < map.dims; ++k) row[k] = mix(w, a[k], b[k], c[k], d[k]);
  } else {
    const std::ptrdiff_t step = map.stride_c;
    for (int k = 0; k < map.dims; ++k) row[k] = mix(w, a[k * step], b[k * step], c[k * step], d[k * step]);
  }
}
FR_DISPATCH(mix_channels, (const DenseMap& map, const Sample& s, float* row), (map, s, row))

FR_INLINE void unit_row_body(float* row, int dims) {
  float lanes[kLanes] = {};
  const int whole = dims / kLanes * kLanes;
  for (int k = 0; k < whole; k += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] = std::fmaf(row[k + j], row[k + j], lanes[j]);
  for (int k = whole; k < dims; ++k) lanes[k - whole] = std::fmaf(row[k], row[k], lanes[k - whole]);
  const float factor = inverse_norm(fold(lanes));
  for (int k = 0; k < dims; ++k) row[k] *= factor;
}
FR_DISPATCH(unit_row, (float* row, int dims), (row, dims))

}  // namespace

void describe(const Context& context, Workspace& workspace, const DenseMap& map, const Keypoints& keypoints,
              float* rows) {
  (void)workspace;
  require(map.data != nullptr && map.dims > 0 && map.height > 0 && map.width > 0, "map", "an empty map",
          "(D, h, w) cells");
  const int count = *keypoints.count;
  require(count >= 0 && count <= keypoints.capacity, "keypoints", std::to_string(count) + " points",
          "at most the capacity");
  context.parallel_for(count, kPointsPerChunk, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) {
      float* row = rows + static_cast<std::ptrdiff_t>(i) * map.dims;
      mix_channels(map, locate(map, keypoints.xy[2 * i], keypoints.xy[2 * i + 1]), row);
      unit_row(row, map.dims);
    }
  });
}

}  // namespace fastretina::cpu
