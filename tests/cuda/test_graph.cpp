// A chain of rooms on one stream: captured into a CUDA graph after one warm-up call, which shows that nothing allocates
// and nothing waits; replayed on other images, it gives what the rooms give one by one; and the same bits every time.
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

constexpr int kSide = 96, kDims = 16, kMost = 64;
constexpr int kPlane = kSide * kSide, kCells = kPlane / 16;

std::vector<std::uint8_t> photograph(std::uint64_t seed) {
  std::vector<std::uint8_t> image(3 * kPlane);
  for (int i = 0; i < kPlane; ++i) {
    const int x = i % kSide, y = i / kSide;
    const double vessel = std::sin(0.2 * x + 0.02 * static_cast<double>(seed) * y) * std::cos(0.15 * y);
    const auto noise = static_cast<int>(random_below(random_bits(seed, 0, static_cast<std::uint64_t>(i)), 20));
    const bool eye = std::hypot(x - kSide / 2, y - kSide / 2) < 0.46 * kSide;
    for (int c = 0; c < 3; ++c)
      image[static_cast<std::size_t>(3 * i + c)] = static_cast<std::uint8_t>(eye ? 120 + 40 * vessel + noise : 2);
  }
  return image;
}

// One image's buffers. What a network would make of the plane is made up: the plane's corner cells.
struct Features {
  Array<std::uint8_t> image{3 * kPlane}, mask{kPlane};
  Array<float> plane{kPlane}, contrast{1}, maps{kCells * kDims}, xy{2 * kMost}, score{kMost}, rows{kMost * kDims};
  Array<int> count{1};
  Array<std::uint64_t> ridge_memory{0};
  RidgeMap ridges;
  Features() : ridge_memory(ridge_map_bytes({kSide, kSide}, {}) / 8 + 16) {
    const auto base = (reinterpret_cast<std::uintptr_t>(ridge_memory.data()) + 63) / 64 * 64;
    ridges = lay_out({kSide, kSide}, {}, reinterpret_cast<std::byte*>(base));
  }
  Keypoints keypoints() const { return {xy.data(), score.data(), count.data(), kMost}; }
  Descriptors descriptors() const { return {rows.data(), count.data(), kMost, kDims}; }
};

struct Chain {
  Features fixed, moving;
  Array<int> match_fixed{kMost}, match_moving{kMost}, match_count{1};
  Array<float> match_score{kMost};
  Array<Transform> start{1};
  Array<Refinement> refined{1};
};

void look(const Backend& gpu, Device& device, const Features& f) {
  ImageOptions options;
  options.working_size = kSide;
  const ImageGeometry g = image_geometry({kSide, kSide}, options);
  const View<float> plane(f.plane.data(), kSide, kSide);
  const View<std::uint8_t> mask(f.mask.data(), kSide, kSide);
  gpu.image(device.context, device.workspace, {f.image.data(), kSide, kSide, 3, 3 * kSide, PixelType::u8}, g, options,
            {plane, mask, {}, f.contrast.data()});
  gpu.ridges(device.context, device.workspace, plane, mask, {}, f.ridges);
  // Every fourth row and column of the plane stands for the class maps, shifted ones for the descriptors.
  const View<const float> difference(f.plane.data(), kSide / 4, kSide / 4, 4 * kSide);
  NmsOptions nms;
  nms.max_keypoints = kMost, nms.radius = 1;
  gpu.detect(device.context, device.workspace, difference, mask, nms, f.keypoints());
  const DenseMap map{f.plane.data(), kDims, kSide / 4, kSide / 4, 1, 4 * kSide, 3};
  gpu.describe(device.context, device.workspace, map, f.keypoints(), f.rows.data());
}

void run(const Backend& gpu, Device& device, const Chain& c) {
  look(gpu, device, c.fixed);
  look(gpu, device, c.moving);
  gpu.match(device.context, device.workspace, c.fixed.descriptors(), c.moving.descriptors(),
            {Precision::i8, -1.0f, 1.0f},
            {c.match_fixed.data(), c.match_moving.data(), c.match_score.data(), c.match_count.data(), kMost});
  RefineOptions refine;
  refine.min_points = 16, refine.first_level = 2, refine.max_iterations = 3;
  gpu.refine(device.context, device.workspace, c.fixed.ridges, c.moving.ridges, *c.start.data(), refine,
             c.refined.data());
}

struct Answer {
  std::vector<int> fixed, moving;
  std::vector<float> score;
  Refinement refined;
  bool operator==(const Answer& other) const {
    return fixed == other.fixed && moving == other.moving && score == other.score &&
           same_bits(std::vector{refined.score_after}, std::vector{other.refined.score_after}) &&
           refined.iterations == other.refined.iterations &&
           std::memcmp(refined.T_fixed_moving.p, other.refined.T_fixed_moving.p, sizeof refined.T_fixed_moving.p) == 0;
  }
};

Answer answer_of(const Device& device, const Chain& c) {
  device.wait();
  Answer a{c.match_fixed.get(), c.match_moving.get(), c.match_score.get(), c.refined.value()};
  const auto n = static_cast<std::size_t>(c.match_count.value());
  a.fixed.resize(n), a.moving.resize(n), a.score.resize(n);
  return a;
}

void show(const Chain& c, std::uint64_t fixed, std::uint64_t moving) {
  const std::vector<std::uint8_t> a = photograph(fixed), b = photograph(moving);
  cuda::check(cudaMemcpy(c.fixed.image.data(), a.data(), a.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  cuda::check(cudaMemcpy(c.moving.image.data(), b.data(), b.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
}

}  // namespace

int main() {
  Device device;
  const Backend& gpu = *cuda_backend();
  const Chain chain;
  const Transform identity{TransformKind::similarity, {1, 0, 0.4, 0, 1, 0, 0, 0, 1}};
  cuda::check(cudaMemcpy(chain.start.data(), &identity, sizeof identity, cudaMemcpyHostToDevice), "cudaMemcpy");

  show(chain, 1, 2);
  run(gpu, device, chain);  // warm-up
  const Answer first = answer_of(device, chain);
  CHECK(first.score.size() > 5 && first.refined.iterations > 0);
  show(chain, 3, 4);
  run(gpu, device, chain);
  const Answer second = answer_of(device, chain);
  CHECK(!(first == second));
  const std::size_t held = device.workspace.capacity_bytes();

  const cudaStream_t stream = cuda::stream_of(device.context);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  run(gpu, device, chain);
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  CHECK(device.workspace.capacity_bytes() == held);
  show(chain, 1, 2);
  cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
  CHECK(answer_of(device, chain) == first);
  show(chain, 3, 4);
  cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
  CHECK(answer_of(device, chain) == second);
  cuda::check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  cuda::check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}
