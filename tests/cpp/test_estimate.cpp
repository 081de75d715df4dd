// estimate and upgrade on every kind, at sizes around the packs, the preview and none at all.
#include <cmath>
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "core/simd.h"
#include "core/transform.h"
#include "estimate/estimate.h"

using namespace fastretina;

namespace {

double uniform(std::uint64_t counter) { return static_cast<double>(random_bits(1, 2, counter) >> 11) * 0x1p-53; }

struct Scene {
  std::vector<float> fixed, moving, weight;
  int count = 0;
  PointPairs pairs() const { return {fixed.data(), moving.data(), weight.data(), &count, count}; }
};

// Two thirds of the pairs follow `truth` to within half a pixel.
Scene make_scene(const Transform& truth, int n) {
  Scene s;
  s.count = n;
  for (int i = 0; i < n; ++i) {
    const auto c = static_cast<std::uint64_t>(8 * i);
    const Point q = {640 * uniform(c), 640 * uniform(c + 1)};
    Point m = apply(truth, q);
    m = i % 3 == 2 ? Point{640 * uniform(c + 2), 640 * uniform(c + 3)}
                   : Point{m.x + uniform(c + 4) - 0.5, m.y + uniform(c + 5) - 0.5};
    for (const double at : {q.x, q.y}) s.moving.push_back(static_cast<float>(at));
    for (const double at : {m.x, m.y}) s.fixed.push_back(static_cast<float>(at));
    s.weight.push_back(static_cast<float>(0.5 + 0.5 * uniform(c + 6)));
  }
  return s;
}

bool near(const Transform& a, const Transform& b) {
  for (const Point q : {Point{100, 100}, Point{540, 100}, Point{320, 320}, Point{100, 540}, Point{540, 540}}) {
    const Point u = apply(a, q), v = apply(b, q);
    if (!(std::hypot(u.x - v.x, u.y - v.y) < 1.5)) return false;
  }
  return true;
}

}  // namespace

int main() {
  const Transform truths[4] = {
      {TransformKind::similarity, {0.9, -0.3, 60, 0.3, 0.9, -20, 0, 0, 1}},
      {TransformKind::affine, {0.95, -0.34, 60, 0.32, 0.84, -20, 0, 0, 1}},
      {TransformKind::homography, {0.9, -0.3, 60, 0.3, 0.9, -20, 2e-4, -1e-4, 1}},
      {TransformKind::quadratic, {30, 0.95, 0.04, 2e-5, -1e-5, 3e-5, -9, 0.02, 1.03, 1e-5, 4e-5, -2e-5}}};
  const Size frame = {640, 640};
  for (const Transform& truth : truths)
    for (const int n : {0, 1, 2, 3, 5, 6, 15, 16, 17, 127, 130, 511, 512, 513, 1001}) {
      const Scene scene = make_scene(truth, n);
      Estimate first;
      for (const int threads : {1, 3})
        for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512bf16}) {
          limit_simd_level(level);
          const Context context(threads);
          Workspace workspace;
          EstimateOptions options;
          options.kind = truth.kind;
          options.max_iterations = 5000;
          Estimate found;
          std::vector<std::uint8_t> inlier(static_cast<std::size_t>(n));
          cpu::estimate(context, workspace, scene.pairs(), options, &found, inlier.data());
          if (threads == 1 && level == SimdLevel::scalar) first = found;
          for (int i = 0; i < 12; ++i) CHECK(found.T_fixed_moving.p[i] == first.T_fixed_moving.p[i]);
          CHECK(found.found == first.found && found.iterations == first.iterations);
          int flags = 0;
          for (const std::uint8_t flag : inlier) flags += flag;
          CHECK(flags == found.inliers);
          if (n >= 127) {
            CHECK(found.found && near(found.T_fixed_moving, truth));
            CHECK(found.inliers >= 0.65 * n && found.inliers <= 0.72 * n);
          }

          EstimateOptions rough = options;
          rough.kind = TransformKind::similarity;
          rough.threshold_px = 12;
          Estimate start, raised;
          cpu::estimate(context, workspace, scene.pairs(), rough, &start, nullptr);
          cpu::upgrade(context, workspace, scene.pairs(), start.T_fixed_moving, frame, frame, {}, &raised,
                       inlier.data());
          if (n >= 511)
            CHECK(raised.found && raised.T_fixed_moving.kind == truth.kind && near(raised.T_fixed_moving, truth));
        }
    }
  return 0;
}
