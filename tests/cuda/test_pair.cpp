// A pair on the device: fed with what the network answers to the CPU pipeline, it gives the CPU pipeline's answer,
// local field and all; with its first rung captured into a graph, which shows that nothing allocates and nothing waits
// there, the same bits every time.
#include "pipeline_cuda.h"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/error.h"
#include "device.h"
#include "scene.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

constexpr double kMostApart_px = 0.05;  // steps of refine are summed in another order
constexpr int kMultiple = 8;
#if defined(__SANITIZE_ADDRESS__)  // a pair takes a minute there: one goes through all rooms
constexpr bool kThorough = false;
#else
constexpr bool kThorough = true;
#endif

Options options_of(int working_size) {
  Options options;
  options.features.image.working_size = working_size;
  options.features.detect.max_keypoints = 300;
  options.features.detect.threshold = 0;
  options.ladder.max_rungs = 1;
  return options;
}

Options dense(Options options) {
  options.model.choice = TransformChoice::dense;
  return options;
}

Transform matrix(double a, double b, double tx, double c, double d, double ty) {
  return {TransformKind::affine, {a, b, tx, c, d, ty, 0, 0, 1}};
}

// A picture, and its copy on the device.
struct Picture {
  std::vector<std::uint8_t> bytes;
  Array<std::uint8_t> there;
  int width, height;
  PixelType type;

  Picture(std::vector<std::uint8_t> bytes_, int width_, int height_, PixelType type_)
      : bytes(std::move(bytes_)), there(bytes), width(width_), height(height_), type(type_) {}
  explicit Picture(const Photograph& p) : Picture(p.pixels, p.width, p.height, PixelType::u8) {}
  Image at(const std::uint8_t* data) const {
    return {data, width, height, 1, static_cast<std::ptrdiff_t>(bytes.size()) / height, type};
  }
  Image host() const { return at(bytes.data()); }
  Image device() const { return at(there.data()); }
  void show(const Photograph& p) const {
    cuda::check(cudaMemcpy(there.data(), p.pixels.data(), p.pixels.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
};

Picture as_floats(const Photograph& p) {
  std::vector<float> values(p.pixels.begin(), p.pixels.end());
  for (float& v : values) v /= 255;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(values.data());
  return {{bytes, bytes + values.size() * sizeof(float)}, p.width, p.height, PixelType::f32};
}

// What the filters of scene.h answer to a plane on the device, there: made on the host, as a test may.
class Answer {
 public:
  explicit Answer(View<const float> plane)
      : plane_(plane), difference_(cells()), rows_(cells() * static_cast<std::size_t>(network_.dims())) {}
  void make() {
    std::vector<float> values(16 * cells());
    const View<const float> copy(values.data(), plane_.width, plane_.height);
    cuda::check(cudaMemcpy(values.data(), plane_.data, values.size() * sizeof(float), cudaMemcpyDeviceToHost), "copy");
    const NetworkOutput made = network_.run(copy);
    put(difference_, made.difference.data);
    put(rows_, made.descriptors.data);
  }
  NetworkOutput output() const {
    const int h = plane_.height / 4, w = plane_.width / 4, d = network_.dims();
    return {{difference_.data(), w, h}, {rows_.data(), d, h, w, 1, w * d, d}};
  }
  void break_it() {
    const float nothing = std::nanf("");
    cuda::check(cudaMemcpy(difference_.data() + 5, &nothing, sizeof nothing, cudaMemcpyHostToDevice), "copy");
  }

 private:
  std::size_t cells() const { return static_cast<std::size_t>(plane_.width / 4) * (plane_.height / 4); }
  static void put(const Array<float>& to, const float* from) {
    cuda::check(cudaMemcpy(to.data(), from, to.get().size() * sizeof(float), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  View<const float> plane_;
  FilterNetwork network_;
  Array<float> difference_, rows_;
};

// A pair with everything that a caller has around it.
struct Caller {
  Device device;
  std::unique_ptr<cuda::DevicePair> pair;
  Answer fixed, moving;
  std::vector<std::uint64_t> memory;

  Caller(const Picture& a, const Picture& b, const Options& options)
      : pair(cuda::make_device_pair(a.device(), b.device(), options, kMultiple, FilterNetwork().dims())),
        fixed(pair->plane(0)),
        moving(pair->plane(1)),
        memory(pair->findings_bytes() / 8 + 8) {}
  std::byte* block() {
    const auto address = (reinterpret_cast<std::uintptr_t>(memory.data()) + 63) / 64 * 64;
    return reinterpret_cast<std::byte*>(address);
  }
  void look() {
    pair->look(device.context.stream);
    device.wait();
    fixed.make(), moving.make();
  }
  void solve() { pair->solve(device.context.stream, fixed.output(), moving.output()); }
  void bring() { cuda::copy(device.context, block(), pair->findings(), pair->findings_bytes()); }
  const Registration& finish() {
    device.wait();
    const Registration& found = pair->read(block());
    if (!pair->wants_field()) return found;
    pair->deform(device.context.stream);
    bring();
    device.wait();
    return pair->read_field(block());
  }
  const Registration& all() {
    look(), solve(), bring();
    return finish();
  }
};

bool same(const Registration& a, const Registration& b) {
  const Candidate &p = a.best, &q = b.best;
  return p.found == q.found && p.T_fixed_moving.kind == q.T_fixed_moving.kind &&
         same_bits(std::vector(p.T_fixed_moving.p, p.T_fixed_moving.p + 12),
                   std::vector(q.T_fixed_moving.p, q.T_fixed_moving.p + 12)) &&
         p.quality.confidence == q.quality.confidence && p.fixed_xy == q.fixed_xy && p.moving_xy == q.moving_xy &&
         p.score == q.score && p.inlier == q.inlier && p.measured.peak_to_sidelobe == q.measured.peak_to_sidelobe &&
         p.grid.columns == q.grid.columns && p.grid.rows == q.grid.rows && p.grid.x0 == q.grid.x0 &&
         (p.grid.empty() || p.control == q.control);
}

Deformation deformation_of(const Candidate& c) { return {c.T_fixed_moving, c.field()}; }

double apart_px(const Deformation& a, const Deformation& b, int width, int height) {
  constexpr int kSide = 16;
  double most = 0;
  for (int i = 0; i <= kSide * (kSide + 2); ++i) {
    const Point at{(width - 1.0) * (i % (kSide + 1)) / kSide, (height - 1.0) * (i / (kSide + 1)) / kSide};
    const Point p = apply(a, at), q = apply(b, at);
    most = std::fmax(most, std::hypot(p.x - q.x, p.y - q.y));
  }
  return most;
}

bool near(double a, double b, double bound) { return std::fabs(a - b) <= bound; }

void agrees_with_the_cpu(const Picture& a, const Picture& b, const Options& options, Status status, bool bent = false) {
  Session session(std::make_shared<FilterNetwork>(), options, 1);
  Prepared fixed, moving;
  session.prepare(a.host(), fixed);
  session.prepare(b.host(), moving);
  const Registration& expected = session.register_pair(fixed, moving);
  Caller caller(a, b, options);
  const Registration& got = caller.all();
  CHECK(got.best.quality.status == status && expected.best.quality.status == status);
  CHECK(got.best.found == expected.best.found && got.best.found == (status != Status::no_content));
  CHECK(got.attempts == 1 && caller.pair->strong());
  CHECK(got.best.grid.empty() == !bent && expected.best.grid.empty() == !bent);

  const auto same_points = [](const cuda::Seen& seen, const Features& features) {
    const int n = *features.keypoints.count;
    if (*seen.keypoints.count != n || seen.content.width != features.content.width) return false;
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(float);
    return std::memcmp(seen.keypoints.xy, features.keypoints.xy, 2 * bytes) == 0 &&
           std::memcmp(seen.keypoints.score, features.keypoints.score, bytes) == 0 &&
           std::memcmp(seen.T_network_input.p, features.T_network_input.p, sizeof features.T_network_input.p) == 0;
  };
  CHECK(same_points(caller.pair->seen(0), fixed.first()));
  CHECK(same_points(caller.pair->seen(1), moving.first()));

  const QualityInputs &g = got.best.measured, &e = expected.best.measured;
  CHECK(g.matches == e.matches && g.inliers == e.inliers && g.attempts == e.attempts);
  CHECK(got.best.fixed_xy == expected.best.fixed_xy && got.best.moving_xy == expected.best.moving_xy);
  CHECK(got.best.score == expected.best.score && got.best.inlier == expected.best.inlier);
  CHECK(near(g.inlier_similarity, e.inlier_similarity, 1e-12) && near(g.inlier_rms_px, e.inlier_rms_px, 1e-6));
  CHECK(near(g.contrast_fixed, e.contrast_fixed, 1e-6) && near(g.coverage, e.coverage, 1e-9));
  CHECK(near(g.ridge_correlation, e.ridge_correlation, 1e-3));
  CHECK(near(got.best.quality.confidence, expected.best.quality.confidence, 1e-2));
  if (!got.best.found) return;
  CHECK(apart_px(deformation_of(got.best), deformation_of(expected.best), b.width, b.height) <= kMostApart_px);
}

void the_same_bits_from_a_graph(const Picture& a, const Picture& b, const Photograph& other, const Options& options) {
  Caller caller(a, b, options);
  const Registration first = caller.all();
  CHECK(!first.best.grid.empty() && same(caller.all(), first));
  const Answer &fixed = caller.fixed, &moving = caller.moving;
  const cudaStream_t stream = cuda::stream_of(caller.device.context);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  caller.pair->look(stream);
  caller.pair->solve(stream, fixed.output(), moving.output());
  caller.bring();
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  const auto replay = [&]() -> const Registration& {
    cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    return caller.finish();
  };
  CHECK(same(replay(), first));
  b.show(other);  // the network's answer has to follow, as it would within one graph
  caller.look();
  const Registration second = replay();
  CHECK(!same(second, first) && same(caller.all(), second));
  cuda::check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  cuda::check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

void a_weak_rung_is_the_cpus(const Picture& a, const Picture& b, const Options& options) {
  Caller caller(a, b, options);
  const Candidate& best = caller.all().best;
  CHECK(best.found && best.quality.confidence < options.ladder.strong_confidence);
  CHECK(!caller.pair->strong() && !caller.pair->wants_field());
}

// Well matched, but what was polished is not what the ladder would have looked at.
void another_field_of_view_is_the_cpus(const Picture& a, const Picture& b, Options options) {
  options.ladder.max_rungs = 1;
  options.model.choice = TransformChoice::affine;
  Caller caller(a, b, options);
  CHECK(caller.all().best.quality.status == Status::ok && !caller.pair->strong() && !caller.pair->wants_field());
}

void misuse_is_found_on_the_device(const Photograph& a, const Photograph& b, const Options& options) {
  const Picture fixed(a), moving(b);
  Picture bad = as_floats(b);
  const float two = 2;
  cuda::check(cudaMemcpy(bad.there.data() + 4000, &two, sizeof two, cudaMemcpyHostToDevice), "cudaMemcpy");
  Caller caller(fixed, bad, options);
  CHECK(throws<InvalidArgument>([&] { caller.all(); }));

  Caller broken(fixed, moving, options);
  broken.look();
  broken.moving.break_it();
  broken.solve(), broken.bring();
  CHECK(throws<EngineError>([&] { broken.finish(); }));
}

}  // namespace

int main() {
  need_device();
  const Scene scene(1);
  const Photograph a(scene, {}, kWidth, kHeight), b(scene, matrix(0.995, -0.06, 14, 0.06, 0.995, -12), kWidth, kHeight);
  const Photograph smaller(scene, matrix(1.1, 0, 9, 0, 1.1, -4), 280, 264);
  const Photograph stranger(Scene(2), {}, kWidth, kHeight);
  const Photograph shifted(scene, matrix(1, 0, 7, 0, 1, 5), kWidth, kHeight);
  const Photograph swollen(scene, {matrix(1, 0, 6, 0, 1, -4), bump()}, kWidth, kHeight);
  const Picture fixed(a), moving(b), bent(swollen);
  const Picture black(std::vector<std::uint8_t>(kWidth * kHeight, 0), kWidth, kHeight, PixelType::u8);
  agrees_with_the_cpu(fixed, bent, dense(options_of(160)), Status::ok, true);
  misuse_is_found_on_the_device(a, b, options_of(96));
  if (!kThorough) return 0;
  for (const double gain_nats : {10.0, 1e4}) {  // what a field must gain that nobody asked for
    Options automatic = options_of(160);
    automatic.model.field_gain_nats = gain_nats;
    agrees_with_the_cpu(fixed, bent, automatic, Status::ok, gain_nats < 1e4);
  }
  Options strict = dense(options_of(160));  // the field that is found is implausible
  strict.quality.max_anisotropy = 1.05;
  agrees_with_the_cpu(fixed, bent, strict, Status::ok);
  agrees_with_the_cpu(fixed, moving, dense(options_of(160)), Status::ok);
  agrees_with_the_cpu(as_floats(a), Picture(smaller), options_of(200), Status::ok);  // two sizes
  agrees_with_the_cpu(fixed, Picture(stranger), options_of(128), Status::low_agreement);
  agrees_with_the_cpu(fixed, black, options_of(96), Status::no_content);
  constexpr int kCrop = 176;
  Options affine = options_of(kCrop);  // no finer scale: not polished
  affine.model.choice = TransformChoice::affine;
  const Picture crop(Photograph(scene, matrix(1, 0, 70, 0, 1, 60), kCrop, kCrop)),
      moved(Photograph(scene, matrix(0.995, -0.06, 80, 0.06, 0.995, 50), kCrop, kCrop)),
      warped(Photograph(scene, {matrix(1, 0, 76, 0, 1, 57), bump()}, kCrop, kCrop));
  agrees_with_the_cpu(crop, moved, affine, Status::ok);
  agrees_with_the_cpu(crop, warped, dense(options_of(kCrop)), Status::ok, true);
  the_same_bits_from_a_graph(fixed, bent, shifted, dense(options_of(128)));
  another_field_of_view_is_the_cpus(fixed, Picture(Photograph(scene, matrix(0.78, 0, 40, 0, 0.78, 36), kWidth, kHeight)), options_of(160));
  Options climbing = options_of(96);
  climbing.ladder.max_rungs = 2;
  a_weak_rung_is_the_cpus(fixed, Picture(stranger), climbing);
  a_weak_rung_is_the_cpus(fixed, Picture(stranger), dense(options_of(128)));  // a field is asked for, at another scale
}
