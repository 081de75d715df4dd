// The whole pipeline from C++, with a network made of fixed filters: known maps are found, a black frame is refused,
// and nothing is allocated after warm-up.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/field.h"
#include "pipeline.h"

namespace {
std::atomic<long> allocations{0};
}

// Not inlined: gcc 12 would see malloc and delete meet, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace fastretina;

namespace {

constexpr int kWidth = 320, kHeight = 288;

// Dark lines and spots on gray. The fractions come from raw random bits: the same scene everywhere.
class Scene {
 public:
  explicit Scene(unsigned seed) : random_(seed) {
    for (int i = 0; i < 14; ++i) lines_.push_back({unit() * 3.1416, (unit() - 0.5) * 300, 0});
    for (int i = 0; i < 260; ++i) spots_.push_back({unit() * 440 - 60, unit() * 400 - 60, 1.8 + unit()});
  }

  std::uint8_t at(double x, double y) const {
    double ink = 0;
    for (const auto& [angle, offset, unused] : lines_) {
      const double across = (x - kWidth / 2) * std::cos(angle) + (y - kHeight / 2) * std::sin(angle) - offset;
      if (std::abs(across) < 8) ink += std::exp(-across * across / 5);
    }
    for (const auto& [u, v, radius] : spots_) {
      const double far = (x - u) * (x - u) + (y - v) * (y - v);
      if (far < 100) ink += std::exp(-far / (2 * radius * radius));
    }
    return static_cast<std::uint8_t>(std::lround(200 - 120 * std::min(ink, 1.0)));
  }

 private:
  struct Mark {
    double a, b, c;
  };
  double unit() { return static_cast<double>(random_()) / 4294967296.0; }

  std::mt19937 random_;
  std::vector<Mark> lines_, spots_;
};

// What a camera sees whose pixel q shows the scene at T(q).
struct Photograph {
  std::vector<std::uint8_t> pixels;
  int width, height;

  Photograph(const Scene& scene, const Transform& T, int width_, int height_) : width(width_), height(height_) {
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const Point p = apply(T, {static_cast<double>(x), static_cast<double>(y)});
        pixels.push_back(scene.at(p.x, p.y));
      }
  }
  Image image() const { return {pixels.data(), width, height, 1, width, PixelType::u8}; }
};

// Key points are dark spots; a descriptor is the surroundings of a cell, sampled every 3 px.
class FilterNetwork : public Network {
 public:
  NetworkOutput run(View<const float> plane) override {
    const int h = plane.height / 4, w = plane.width / 4;
    difference_.resize(static_cast<std::size_t>(h * w));
    rows_.resize(static_cast<std::size_t>(h * w * dims()));
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        const auto cell = static_cast<std::size_t>(y * w + x);
        const int cx = 4 * x + 2, cy = 4 * y + 2;
        float around = 0;
        for (int k = 0; k < 8; ++k) around += mean(plane, cx + kRing[k][0], cy + kRing[k][1]) / 8;
        difference_[cell] = 4 * (around - mean(plane, cx, cy)) - 1;
        for (int k = 0; k < dims(); ++k)
          rows_[cell * static_cast<std::size_t>(dims()) + static_cast<std::size_t>(k)] =
              mean(plane, cx + 3 * (k % 8) - 10, cy + 3 * (k / 8) - 10);
      }
    return {{difference_.data(), w, h}, {rows_.data(), dims(), h, w, 1, w * dims(), dims()}};
  }
  int multiple() const override { return 8; }
  int dims() const override { return 64; }

 private:
  static constexpr int kRing[8][2] = {{6, 0}, {4, 4}, {0, 6}, {-4, 4}, {-6, 0}, {-4, -4}, {0, -6}, {4, -4}};

  static float mean(View<const float> plane, int cx, int cy) {
    float sum = 0;
    for (int y = cy - 1; y <= cy + 1; ++y)
      for (int x = cx - 1; x <= cx + 1; ++x)
        sum += plane.row(std::clamp(y, 0, plane.height - 1))[std::clamp(x, 0, plane.width - 1)];
    return sum / 9;
  }

  std::vector<float> difference_, rows_;
};

Options small_options() {
  Options options;
  options.features.image.working_size = kWidth;
  options.features.detect.max_keypoints = 300;
  options.features.detect.threshold = 0;
  options.ladder.strong_confidence = 0.999;  // the confidence is calibrated on retinas, not on these scenes
  return options;
}

// The same pair with a field of 4 px in the middle: asked for it, the session finds it, and again without allocating.
void finds_a_field() {
  const Scene scene(6);
  const Photograph fixed(scene, {}, kWidth, kHeight);
  std::vector<std::uint8_t> bent;
  const auto seen = [](double x, double y) {
    const double dx = x - kWidth / 2.0, dy = y - kHeight / 2.0, bump = std::exp(-(dx * dx + dy * dy) / (2 * 45.0 * 45.0));
    return Point{x + 6 + 3.5 * bump, y - 4 - 2 * bump};
  };
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x) {
      const Point p = seen(x, y);
      bent.push_back(scene.at(p.x, p.y));
    }
  Options options = small_options();
  options.model.choice = TransformChoice::dense;
  Session session(std::make_shared<FilterNetwork>(), options, 2);
  Prepared prepared;
  session.prepare(fixed.image(), prepared);
  const Image moving{bent.data(), kWidth, kHeight, 1, kWidth, PixelType::u8};
  long before = 0;
  for (int round = 0; round < 3; ++round) {
    if (round == 2) before = allocations;
    const Candidate& best = session.register_pair(prepared, moving).best;
    CHECK(best.found && !best.grid.empty());
    const Point truth = seen(kWidth / 2.0, kHeight / 2.0);
    const Point got = apply(Deformation{best.T_fixed_moving, best.field()}, {kWidth / 2.0, kHeight / 2.0});
    CHECK(std::hypot(got.x - truth.x, got.y - truth.y) < 1);
  }
  CHECK(allocations == before);
}

Session session_of(int threads) { return Session(std::make_shared<FilterNetwork>(), small_options(), threads); }

Transform matrix(double a, double b, double tx, double c, double d, double ty) {
  Transform T;
  T.kind = TransformKind::affine;
  const double p[6] = {a, b, tx, c, d, ty};
  std::copy_n(p, 6, T.p);
  return T;
}

// Over what both frames show.
double mean_error_px(const Transform& found, const Transform& truth, Size moving) {
  double sum = 0;
  int count = 0;
  for (int y = 0; y < moving.height; y += 16)
    for (int x = 0; x < moving.width; x += 16) {
      const Point q{static_cast<double>(x), static_cast<double>(y)}, p = apply(truth, q), o = apply(found, q);
      if (p.x < 0 || p.y < 0 || p.x > kWidth - 1 || p.y > kHeight - 1) continue;
      sum += std::hypot(o.x - p.x, o.y - p.y);
      ++count;
    }
  return sum / count;
}

bool same(const Candidate& a, const Candidate& b) {
  return std::memcmp(a.T_fixed_moving.p, b.T_fixed_moving.p, sizeof a.T_fixed_moving.p) == 0 &&
         a.T_fixed_moving.kind == b.T_fixed_moving.kind && a.quality.confidence == b.quality.confidence &&
         a.fixed_xy == b.fixed_xy && a.moving_xy == b.moving_xy && a.inlier == b.inlier;
}

void finds_known_maps() {
  const Scene scene(1);
  const Photograph fixed(scene, {}, kWidth, kHeight);
  Session session = session_of(1);
  Prepared prepared;
  session.prepare(fixed.image(), prepared);
  struct Case {
    Transform truth;
    int width, height, quarter_turns;
    bool mirrored;
  };
  const Case cases[] = {
      {matrix(1, 0, 21.25, 0, 1, -13.5), kWidth, kHeight, 0, false},
      {matrix(0.995, -0.1, 30, 0.1, 0.995, -20), kWidth, kHeight, 0, false},
      {matrix(0, 1, 4, -1, 0, kHeight - 6), kHeight, kWidth, 1, false},
      {matrix(-1, 0, kWidth - 7, 0, 1, 3), kWidth, kHeight, 0, true},
  };
  for (const Case& c : cases) {
    const Photograph moving(scene, c.truth, c.width, c.height);
    const Registration& r = session.register_pair(prepared, moving.image());
    CHECK(r.best.found && r.best.quality.status == Status::ok);
    CHECK(mean_error_px(r.best.T_fixed_moving, c.truth, {c.width, c.height}) < 0.5);
    CHECK(r.best.moving_pose.mirrored == c.mirrored);
    CHECK((r.best.rung == 0) == (c.quarter_turns == 0 && !c.mirrored) && r.attempts > r.best.rung);
    CHECK(r.best.fixed_xy.size() == 2 * r.best.score.size() && r.best.inlier.size() == r.best.score.size());
  }
}

void refuses_what_shows_nothing() {
  const Scene scene(1), other(2);
  const Transform shift = matrix(1, 0, 21.25, 0, 1, -13.5);
  const Photograph fixed(scene, {}, kWidth, kHeight), moving(scene, shift, kWidth, kHeight);
  const Photograph stranger(other, {}, kWidth, kHeight);
  const std::vector<std::uint8_t> zeros(kWidth * kHeight, 0);
  Session session = session_of(1);
  Prepared prepared;
  session.prepare(fixed.image(), prepared);
  const Candidate expected = session.register_pair(prepared, moving.image()).best;

  const Registration& black =
      session.register_pair(prepared, Image{zeros.data(), kWidth, kHeight, 1, kWidth, PixelType::u8});
  CHECK(!black.best.found && black.attempts == 1);
  CHECK(black.best.quality.status == Status::no_content && black.best.quality.confidence == 0);
  const Registration& wrong = session.register_pair(prepared, stranger.image());
  CHECK(wrong.attempts > 8 && wrong.best.quality.confidence < 0.99 && expected.quality.confidence > 0.999);
  CHECK(same(session.register_pair(prepared, moving.image()).best, expected));
}

void threads_change_no_bit() {
  const Scene scene(3);
  const Transform shift = matrix(1, 0, -17.5, 0, 1, 9.25);
  const Photograph fixed(scene, {}, kWidth, kHeight), moving(scene, shift, kWidth, kHeight);
  std::vector<Candidate> results;
  for (const int threads : {1, 2, 3}) {
    Session session = session_of(threads);
    Prepared prepared;
    session.prepare(fixed.image(), prepared);
    results.push_back(session.register_pair(prepared, moving.image()).best);
    CHECK(results.back().found && same(results.back(), results.front()));
  }
}

// A stream: the frames move, the sizes stay. Turned frames make the ladder's memory, too.
void allocates_nothing_after_warm_up() {
  const Scene scene(4);
  const Photograph fixed(scene, {}, kWidth, kHeight);
  const Photograph turned(scene, matrix(0, 1, 4, -1, 0, kHeight - 6), kHeight, kWidth);
  const Photograph first(scene, matrix(1, 0, 5, 0, 1, 5), kWidth, kHeight),
      next(scene, matrix(1, 0, 9, 0, 1, -4), kWidth, kHeight);
  Session session = session_of(2);
  Prepared prepared;
  session.prepare(fixed.image(), prepared);
  const auto round = [&] {
    for (const Photograph* frame : {&first, &turned, &next})
      CHECK(session.register_pair(prepared, frame->image()).best.found);
  };
  round();
  round();  // the best and the next candidate have changed places
  const std::size_t workspace = session.workspace().capacity_bytes();
  const long before = allocations;
  round();
  CHECK(allocations == before);
  CHECK(session.workspace().capacity_bytes() == workspace);
}

// A network that says NaN is broken, whatever the images are; a pair it can answer is not harmed by that.
class BrokenNetwork : public FilterNetwork {
 public:
  explicit BrokenNetwork(const bool& broken) : broken_(broken) {}
  NetworkOutput run(View<const float> plane) override {
    NetworkOutput output = FilterNetwork::run(plane);
    nothing_.assign(static_cast<std::size_t>(plane.width / 4 * plane.height / 4 * dims()), std::nanf(""));
    if (broken_) output.descriptors.data = nothing_.data();
    return output;
  }

 private:
  const bool& broken_;
  std::vector<float> nothing_;
};

template <class Error, class Body>
bool throws(Body&& body) {
  try {
    body();
  } catch (const Error&) {
    return true;
  }
  return false;
}

void misuse_is_an_error() {
  const Scene scene(1);
  const Photograph fixed(scene, {}, kWidth, kHeight);
  bool broken = true;
  Session session(std::make_shared<BrokenNetwork>(broken), small_options(), 1);
  Prepared prepared;
  CHECK(throws<EngineError>([&] { session.prepare(fixed.image(), prepared); }));
  broken = false;
  session.prepare(fixed.image(), prepared);
  CHECK(session.register_pair(prepared, fixed.image()).best.found);

  Options no_attempt = small_options();
  no_attempt.ladder.max_rungs = 0;
  CHECK(throws<InvalidArgument>([&] { Session(std::make_shared<FilterNetwork>(), no_attempt, 1); }));
}

}  // namespace

int main() {
  finds_known_maps();
  refuses_what_shows_nothing();
  misuse_is_an_error();
  threads_change_no_bit();
  allocates_nothing_after_warm_up();
  finds_a_field();
  return 0;
}
