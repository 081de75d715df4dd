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
#include "scene.h"

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

Options small_options() {
  Options options;
  options.features.image.working_size = kWidth;
  options.features.detect.max_keypoints = 300;
  options.features.detect.threshold = 0;
  options.ladder.strong_confidence = 0.999;  // the confidence is calibrated on retinas, not on these scenes
  return options;
}

// A pair with a local field: asked for it, the session finds it, and again without allocating.
void finds_a_field() {
  const Scene scene(6);
  const Deformation seen(scaling(1, 6, -4), bump());
  const Photograph fixed(scene, {}, kWidth, kHeight), moving(scene, seen, kWidth, kHeight);
  Options options = small_options();
  options.model.choice = TransformChoice::dense;
  Session session(std::make_shared<FilterNetwork>(), options, 2);
  Prepared prepared;
  session.prepare(fixed.image(), prepared);
  long before = 0;
  for (int round = 0; round < 3; ++round) {
    if (round == 2) before = allocations;
    const Candidate& best = session.register_pair(prepared, moving.image()).best;
    CHECK(best.found && !best.grid.empty());
    const Point middle{kWidth / 2.0, kHeight / 2.0}, truth = apply(seen, middle),
                got = apply(Deformation{best.T_fixed_moving, best.field()}, middle);
    CHECK(std::hypot(got.x - truth.x, got.y - truth.y) < 1);
  }
  CHECK(allocations == before);
}

// How the vessels are looked at once more: both images at their finest, the larger field enlarged to match.
void shows_both_at_one_scale() {
  const Size source{640, 480};
  const auto shown = [&](const Rung& rung, double magnification, double fixed, double moving) {
    const Rung fine = finest(source, source, rung, magnification, 480);
    CHECK(std::abs(fine.fixed.scale - fixed) < 1e-9 && std::abs(fine.moving.scale - moving) < 1e-9);
    CHECK(fine.fixed.eighth_turns == 0 && !fine.moving.mirrored);
  };
  const double finer = 4.0 / 3.0, root = std::sqrt(2.0);
  shown({}, 1, finer, finer);
  shown({}, 1.06, finer, finer);  // as good as the same
  shown({}, 1.45, finer, finer * root);
  shown({}, 1 / 1.45, finer * root, finer);
  shown({}, 2.4, 3 / std::exp2(1.25), 3);  // no larger than that
  shown({}, 4, 1, 3);                       // and none smaller than it is
  shown({{1, 0, false}, {0.5, 2, true}, false}, 1, 2 * finer, finer);  // the rung had shrunk MOVING to match
  shown({{2, 0, false}, {2, 0, false}, false}, 1, 2, 2);                // and that one had enlarged both
  CHECK((finest({480, 360}, source, {}, 1, 480) == Rung{}));  // nothing to gain
  const Rung huge = finest({8192, 8192}, {8192, 8192}, {}, 4, 8192);
  CHECK(huge.fixed.scale == 1 && huge.moving.scale == 2);  // what the image room takes
}

void knows_how_much_larger_one_is_shown() {
  Candidate best;
  best.T_fixed_moving.kind = TransformKind::homography;
  const double p[9] = {2, 0, 5, 0, 2, 7, 1e-3, 0, 1};
  std::copy_n(p, 9, best.T_fixed_moving.p);
  best.moving_xy = {0, 0, 400, 0, 900, 900};
  best.inlier = {1, 1, 0};
  Frames seen;
  seen.fixed = seen.moving = Transform{};
  seen.fixed.kind = TransformKind::similarity, seen.fixed.p[0] = seen.fixed.p[4] = 0.5;
  const double wanted = std::sqrt(0.25 * jacobian(best.T_fixed_moving, {200, 0}).determinant());
  CHECK(std::abs(magnification(best, seen) - wanted) < 1e-9);
  best.inlier = {0, 0, 0};
  CHECK(magnification(best, seen) == 1);
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
    int width, height, turn_deg;
    bool mirrored;
  };
  const double c140 = std::cos(140 * 3.14159265358979 / 180), s140 = std::sin(140 * 3.14159265358979 / 180);
  const double cx = (kWidth - 1) / 2.0, cy = (kHeight - 1) / 2.0;
  const Case cases[] = {
      {matrix(1, 0, 21.25, 0, 1, -13.5), kWidth, kHeight, 0, false},
      {matrix(0.995, -0.1, 30, 0.1, 0.995, -20), kWidth, kHeight, 0, false},
      {matrix(0, 1, 4, -1, 0, kHeight - 6), kHeight, kWidth, 90, false},
      {matrix(-1, 0, kWidth - 7, 0, 1, 3), kWidth, kHeight, 0, true},
      {matrix(c140, -s140, cx - c140 * cx + s140 * cy, s140, c140, cy - s140 * cx - c140 * cy), kWidth, kHeight, 140,
       false},
  };
  for (const Case& c : cases) {
    const Photograph moving(scene, c.truth, c.width, c.height);
    const Registration& r = session.register_pair(prepared, moving.image());
    CHECK(r.best.found && r.best.quality.status == Status::ok);
    CHECK(mean_error_px(r.best.T_fixed_moving, c.truth, {c.width, c.height}) < 0.5);
    CHECK(r.best.moving_pose.mirrored == c.mirrored);
    CHECK((r.best.rung == 0) == (c.turn_deg == 0 && !c.mirrored) && r.attempts > r.best.rung);
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
  shows_both_at_one_scale();
  knows_how_much_larger_one_is_shown();
  finds_known_maps();
  refuses_what_shows_nothing();
  misuse_is_an_error();
  threads_change_no_bit();
  allocates_nothing_after_warm_up();
  finds_a_field();
  return 0;
}
