// refine: the same steps as on the CPU. The sums over points are the CPU's to the bit; the centring of the values they
// are made from is added in another order, which moves a map by rounding alone: 1e-5 px is a thousand times that of a
// float coordinate's last bit (a frame of 100 px has 1e-5 px), and a thousandth of what refine resolves.
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "core/rng.h"
#include "core/transform.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

constexpr double kRoundingPx = 1e-5;

std::vector<float> scene(int width, int height, double dx, double dy, double bend, float polarity) {
  std::vector<float> plane(static_cast<std::size_t>(width * height));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const double at_x = x + dx + bend * y * y * 1e-4, at_y = y + dy - bend * x * y * 1e-4;
      double sum = 0;
      for (int i = 0; i < 16; ++i) {
        const double angle = 0.7 * i, across = (at_x - width / 2.0) * std::cos(angle) +
                                               (at_y - height / 2.0) * std::sin(angle) - 8.0 * i + 60;
        sum += std::exp(-across * across / 5);
      }
      const auto at = static_cast<std::size_t>(y * width + x);
      plane[at] = polarity * static_cast<float>(sum + random_below(random_bits(5, 0, at), 100) * 0.002);
    }
  return plane;
}

// A ridge map on the host and its copy on the device.
struct Held {
  std::vector<std::uint64_t> memory;
  RidgeMap map, on_device;
  std::unique_ptr<Array<std::uint64_t>> copy;
  Held(const std::vector<float>& plane, int width, int height) {
    const Context context(1);
    static Workspace workspace;
    const RidgeOptions options;
    const std::size_t words = ridge_map_bytes({width, height}, options) / 8 + 16;
    memory.resize(words);
    const auto aligned = [](void* p) {
      return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(p) + 63) / 64 * 64);
    };
    map = lay_out({width, height}, options, aligned(memory.data()));
    std::vector<std::uint8_t> mask(plane.size());
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        mask[static_cast<std::size_t>(y * width + x)] =
            std::hypot(x - width / 2, y - height / 2) < 0.55 * std::max(width, height);
    cpu::ridges(context, workspace, {plane.data(), width, height}, {mask.data(), width, height}, options, map);
    copy = std::make_unique<Array<std::uint64_t>>(words);
    std::byte* base = aligned(copy->data());
    cuda::check(
        cudaMemcpy(base, aligned(memory.data()), ridge_map_bytes({width, height}, options), cudaMemcpyHostToDevice),
        "cudaMemcpy");
    on_device = lay_out({width, height}, options, base);
  }
};

Refinement check(Device& device, const Held& fixed, const Held& moving, const Transform& start,
                 const RefineOptions& options) {
  const Context context(1);
  static Workspace workspace;
  Refinement expected;
  cpu::refine(context, workspace, fixed.map, moving.map, start, options, &expected);
  const Array<Transform> device_start(std::vector<Transform>{start});
  const Array<Refinement> out(1);
  cuda_backend()->refine(device.context, device.workspace, fixed.on_device, moving.on_device, *device_start.data(),
                         options, out.data());
  const Refinement got = out.value();
  CHECK(got.refused == expected.refused && got.iterations == expected.iterations);
  CHECK(got.score_before == expected.score_before && std::fabs(got.score_after - expected.score_after) < 1e-6);
  CHECK(std::fabs(got.shift_px - expected.shift_px) < kRoundingPx &&
        std::fabs(got.gain_nats - expected.gain_nats) < 1e-3);
  CHECK(got.T_fixed_moving.kind == expected.T_fixed_moving.kind);
  for (const Point q : {Point{0, 0}, Point{100, 0}, Point{50, 50}, Point{0, 100}, Point{100, 100}}) {
    const Point a = apply(got.T_fixed_moving, q), b = apply(expected.T_fixed_moving, q);
    CHECK(std::hypot(a.x - b.x, a.y - b.y) < kRoundingPx);
  }
  return expected;
}

// The same bits: of several transforms at once as of each.
void check_correlation(Device& device, const Held& fixed, const Held& moving, const std::vector<Transform>& transforms,
                       int row_step, bool overlaps) {
  const Context context(1);
  static Workspace workspace;
  const std::size_t n = transforms.size();
  const Array<Transform> on_device(transforms);
  const Array<RidgeCorrelation> out(n);
  cuda_backend()->ridge_correlation(device.context, device.workspace, fixed.on_device, moving.on_device,
                                    {on_device.data(), n}, row_step, out.data());
  const std::vector<RidgeCorrelation> got = out.get();
  for (std::size_t i = 0; i < n; ++i) {
    RidgeCorrelation expected;
    cpu::ridge_correlation(context, workspace, fixed.map, moving.map, {&transforms[i], 1}, row_step, &expected);
    CHECK(got[i].score == expected.score && got[i].overlap_px == expected.overlap_px);
    if (overlaps && i == 0) CHECK(expected.score > 0.1 && expected.overlap_px > 1000);
    if (!overlaps) CHECK(expected.score == 0 && expected.overlap_px < 100);
  }
}

}  // namespace

int main() {
  Device device;
  const int width = 200, height = 160;
  const Held fixed(scene(width, height, 0, 0, 0, 1), width, height);
  const Held moving(scene(width, height, 2.25, -1.5, 0.6, -1), width, height);
  Transform start;
  start.kind = TransformKind::similarity;
  start.p[2] = 1;
  std::vector<Transform> several(5, start);
  several[1].p[1] = 0.1, several[1].p[5] = 20;
  several[2] = {TransformKind::quadratic, {2, 1, 0, 1e-4, 0, 0, -1, 0, 1, 0, 1e-4, 0}};
  several[3] = {TransformKind::homography, {1, 0, 0, 0, 1, 0, 1e-4, 0, 1}};
  several[4].p[0] = several[4].p[4] = 0;  // singular
  for (const int row_step : {1, 2, 7}) check_correlation(device, fixed, moving, several, row_step, true);
  check_correlation(device, fixed, moving, {}, 2, true);
  bool refused = false;
  try {
    check_correlation(device, fixed, moving, several, 0, true);
  } catch (const InvalidArgument&) {
    refused = true;
  }
  CHECK(refused);
  for (int kind = 1; kind <= 4; ++kind) {
    RefineOptions options;
    options.kind = static_cast<TransformKind>(kind);
    options.min_points = 16;
    const Refinement found = check(device, fixed, moving, start, options);
    CHECK(!found.refused && found.iterations > 4 && found.score_after > found.score_before + 0.05);
    options.max_iterations = 2, options.first_level = kind - 1;
    check(device, fixed, moving, start, options);
  }
  RefineOptions strict;
  strict.max_shift_px = 0.5, strict.min_points = 16;
  CHECK(check(device, fixed, moving, start, strict).refused);
  start.p[2] = 1000;  // no overlap
  CHECK(check(device, fixed, moving, start, {}).refused);
  for (const auto& [w, h] : {std::pair{1, 1}, {2, 3}, {5, 4}, {9, 17}}) {
    const Held small(scene(w, h, 0, 0, 0, 1), w, h);
    CHECK(check(device, small, small, {}, {}).refused);
    check_correlation(device, small, small, std::vector<Transform>(2), 1, false);
    check_correlation(device, fixed, small, std::vector<Transform>(1), 2, false);
    check_correlation(device, small, fixed, std::vector<Transform>(1), 2, false);
  }
}
