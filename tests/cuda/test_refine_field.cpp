// refine_field: the same decisions as on the CPU. The sums of a cell are the CPU's to the bit; values are centred, the
// prior is added and its equations are solved in another order, which moves control points by the rounding of doubles alone
// (1e-13 px on the emulator): 1e-7 px leaves room for a GPU's logarithm and is a millionth of what a field is kept for.
#include <cmath>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

constexpr int kWidth = 224, kHeight = 192;
constexpr double kRoundingPx = 1e-7;

// Noisy lines, displaced by a smooth bump of `bump` px.
std::vector<float> scene(double bump, float polarity, std::uint64_t seed) {
  std::vector<float> plane(static_cast<std::size_t>(kWidth * kHeight));
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x) {
      const double u = (x - 90) / 45.0, v = (y - 100) / 45.0, d = bump * std::exp(-(u * u + v * v));
      double sum = 0;
      for (int i = 0; i < 24; ++i) {
        const double angle = 0.7 * i, across = (x + d - kWidth / 2.0) * std::cos(angle) +
                                               (y - 0.6 * d - kHeight / 2.0) * std::sin(angle) - 8.0 * i + 90;
        sum += std::exp(-across * across / 5);
      }
      const auto at = static_cast<std::size_t>(y * kWidth + x);
      plane[at] = polarity * static_cast<float>(sum + random_below(random_bits(seed, 0, at), 100) * 0.002);
    }
  return plane;
}

// A ridge map on the host and its copy on the device.
struct Held {
  std::vector<std::uint64_t> memory;
  RidgeMap map, on_device;
  std::unique_ptr<Array<std::uint64_t>> copy;
  explicit Held(const std::vector<float>& plane, int width = kWidth, int height = kHeight) {
    const Context context(1);
    static Workspace workspace;
    const std::size_t bytes = ridge_map_bytes({width, height}, {});
    memory.resize(bytes / 8 + 16);
    const auto aligned = [](void* p) {
      return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(p) + 63) / 64 * 64);
    };
    map = lay_out({width, height}, {}, aligned(memory.data()));
    const std::vector<std::uint8_t> mask(plane.size(), 1);
    cpu::ridges(context, workspace, {plane.data(), width, height}, {mask.data(), width, height}, {}, map);
    copy = std::make_unique<Array<std::uint64_t>>(memory.size());
    cuda::check(cudaMemcpy(aligned(copy->data()), aligned(memory.data()), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    on_device = lay_out({width, height}, {}, aligned(copy->data()));
  }
};

// Captured into a graph after a second call (the first may leave several blocks of scratch, which become one), which
// shows that nothing allocates and nothing waits, and run from there.
template <class Run>
void replay(const Device& device, Run&& run) {
  const cudaStream_t stream = cuda::stream_of(device.context);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  run();
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  run();
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
  device.wait();
  cuda::check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  cuda::check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

FieldRefinement check(Device& device, const Held& fixed, const Held& moving, const Transform& start,
                      const FieldOptions& options) {
  const Context context(1);
  static Workspace workspace;
  const auto numbers = static_cast<std::size_t>(field_capacity(options));
  std::vector<double> control(numbers);
  FieldRefinement expected;
  cpu::refine_field(context, workspace, fixed.map, moving.map, start, options, control.data(), &expected);
  const Array<Transform> device_start(std::vector<Transform>{start});
  const Array<double> device_control(numbers);
  const Array<FieldRefinement> out(1);
  const auto run = [&] {
    cuda_backend()->refine_field(device.context, device.workspace, fixed.on_device, moving.on_device,
                                 *device_start.data(), options, device_control.data(), out.data());
  };
  run();
  const FieldRefinement got = out.value();
  CHECK(got.iterations == expected.iterations);
  CHECK(std::fabs(got.gain_nats - expected.gain_nats) < 1e-4);
  CHECK(std::fabs(got.score_before - expected.score_before) < 1e-7 &&
        std::fabs(got.score_after - expected.score_after) < 1e-7);
  CHECK(got.field.columns == expected.field.columns && got.field.rows == expected.field.rows);
  if (expected.field.empty()) return expected;
  CHECK(got.field.x0 == expected.field.x0 && got.field.y0 == expected.field.y0 &&
        got.field.step_x == expected.field.step_x && got.field.control == device_control.data());
  const std::vector<double> found = device_control.get();
  for (int i = 0; i < 2 * got.field.columns * got.field.rows; ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK(std::fabs(found[at] - control[at]) < kRoundingPx);
  }
  replay(device, run);
  CHECK(same_bits(device_control.get(), found) && out.value().gain_nats == got.gain_nats);
  return expected;
}

}  // namespace

int main() {
  Device device;
  const Held fixed(scene(0, 1, 5)), moving(scene(4, -1, 6)), same(scene(0, -1, 7));
  Transform start;
  start.kind = TransformKind::affine;
  FieldOptions options;
  options.min_points = 64;
  CHECK(!check(device, fixed, moving, start, options).field.empty());
  options.cells = 5, options.max_iterations = 2;
  check(device, fixed, moving, start, options);
  options = {};
  CHECK(check(device, fixed, same, start, options).field.empty());
  options.min_gain_nats = -1000;  // so that all of it runs on noise alone
  check(device, fixed, same, start, options);
  options = {};
  options.min_gain_nats = 1e5;  // a bound after all held-out points were asked
  CHECK(check(device, fixed, moving, start, options).field.empty());
  options = {};
  options.max_iterations = 0;
  CHECK(check(device, fixed, moving, start, options).field.empty());
  options = {};
  const Transform bent{TransformKind::homography, {1, 0.002, 0.3, -0.002, 1, 0, 1e-5, 0, 1}},
      curved{TransformKind::quadratic, {0.2, 1, 0, 1e-5, 0, 0, -0.1, 0, 1, 0, 1e-5, 0}};
  for (const Transform& other : {bent, curved}) CHECK(!check(device, fixed, moving, other, options).field.empty());
  options.min_points = 1000000;
  CHECK(check(device, fixed, moving, start, options).iterations == 0);
  options = {};
  options.max_displacement_px = 0.5;  // a bound at the end
  CHECK(check(device, fixed, moving, start, options).field.empty());
  start.p[2] = 1000;  // no overlap
  CHECK(check(device, fixed, moving, start, {}).field.empty());
  for (const auto& [w, h] : {std::pair{1, 1}, {2, 3}, {9, 17}}) {
    const Held small(std::vector<float>(static_cast<std::size_t>(w * h)), w, h);
    CHECK(check(device, small, small, {}, {}).field.empty());
  }
  bool refused = false;
  options.cells = 0;
  try {
    cuda_backend()->refine_field(device.context, device.workspace, fixed.on_device, moving.on_device, start, options,
                                 nullptr, nullptr);
  } catch (const InvalidArgument&) {
    refused = true;
  }
  CHECK(refused);
}
