// Room refine from C++: ridges and refine at odd sizes and after warm-up, without allocation.
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "core/field.h"
#include "core/transform.h"
#include "refine/refine.h"

using namespace fastretina;

namespace {

// Lines of a few directions; pixel q shows what is at `seen`(q).
template <class Seen>
std::vector<float> scene(int width, int height, float polarity, Seen&& seen) {
  std::vector<float> plane(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const Point at = seen(Point{static_cast<double>(x), static_cast<double>(y)});
      double sum = 0;
      for (int i = 0; i < 16; ++i) {
        const double angle = 0.7 * i, offset = 8.0 * i - 60;
        const double across =
            (at.x - width / 2.0) * std::cos(angle) + (at.y - height / 2.0) * std::sin(angle) - offset;
        sum += std::exp(-across * across / 5);
      }
      plane[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)] =
          polarity * static_cast<float>(sum);
    }
  return plane;
}

std::vector<float> scene(int width, int height, double dx, double dy, float polarity) {
  return scene(width, height, polarity, [&](Point q) { return Point{q.x + dx, q.y + dy}; });
}

// A displacement of 3 px in the middle.
Point bumped(Point q, int width, int height) {
  const double dx = q.x - width / 2.0, dy = q.y - height / 2.0;
  const double bump = std::exp(-(dx * dx + dy * dy) / (2 * 35.0 * 35.0));
  return {q.x + 2.6 * bump, q.y - 1.5 * bump};
}

struct Held {
  std::vector<std::byte> bytes;
  RidgeMap map;
};

Held ridges_of(const Context& context, Workspace& workspace, const std::vector<float>& plane, int width, int height) {
  const RidgeOptions options;
  Held held;
  held.bytes.resize(ridge_map_bytes({width, height}, options) + 64);
  const auto address = reinterpret_cast<std::uintptr_t>(held.bytes.data());
  held.map = lay_out({width, height}, options, held.bytes.data() + (64 - address % 64) % 64);
  const std::vector<std::uint8_t> mask(plane.size(), 1);
  cpu::ridges(context, workspace, {plane.data(), width, height}, {mask.data(), width, height}, options, held.map);
  return held;
}

void finds_a_shift(int width, int height, int threads) {
  const Context context(threads);
  Workspace workspace;
  const Held fixed = ridges_of(context, workspace, scene(width, height, 0, 0, 1), width, height);
  const Held moving = ridges_of(context, workspace, scene(width, height, 2.25, -1.5, -1), width, height);
  std::size_t after_first = 0;
  for (const TransformKind kind :
       {TransformKind::quadratic, TransformKind::homography, TransformKind::affine, TransformKind::similarity}) {
    RefineOptions options;
    options.kind = kind;
    Refinement out;
    cpu::refine(context, workspace, fixed.map, moving.map, {}, options, &out);
    CHECK(!out.refused && out.score_after > out.score_before && out.score_after > 0.9);
    CHECK(out.T_fixed_moving.kind == kind);
    const Point p = apply(out.T_fixed_moving, {width / 2.0, height / 2.0});
    CHECK(std::hypot(p.x - width / 2.0 - 2.25, p.y - height / 2.0 + 1.5) < 0.1);
    if (after_first != 0) CHECK(workspace.capacity_bytes() == after_first);
    after_first = workspace.capacity_bytes();
  }
}

void finds_a_field(int width, int height, int threads) {
  const Context context(threads);
  Workspace workspace;
  const Held fixed = ridges_of(context, workspace, scene(width, height, 0, 0, 1), width, height);
  const auto bent = scene(width, height, -1, [&](Point q) { return bumped(q, width, height); });
  const Held moving = ridges_of(context, workspace, bent, width, height);
  const FieldOptions options;
  std::vector<double> control(static_cast<std::size_t>(field_capacity(options)));
  std::size_t after_first = 0;
  for (int round = 0; round < 2; ++round) {
    FieldRefinement out;
    cpu::refine_field(context, workspace, fixed.map, moving.map, {}, options, control.data(), &out);
    CHECK(!out.field.empty() && out.score_after > out.score_before && least_jacobian(out.field) > 0.3);
    const Point centre{width / 2.0, height / 2.0}, truth = bumped(centre, width, height);
    const Point found = apply(out.field, centre);
    CHECK(std::hypot(found.x - truth.x, found.y - truth.y) < 0.6);
    Point back;
    CHECK(invert_point(out.field, found, found, back) && std::hypot(back.x - centre.x, back.y - centre.y) < 1e-6);
    CHECK(apply(out.field, {-900.0, 1e7}).x == -900.0);
    if (after_first != 0) CHECK(workspace.capacity_bytes() == after_first);
    after_first = workspace.capacity_bytes();

    cpu::refine_field(context, workspace, fixed.map, fixed.map, {}, options, control.data(), &out);
    CHECK(out.field.empty());
  }
}

void survives_small(int width, int height) {
  const Context context(2);
  Workspace workspace;
  const Held fixed = ridges_of(context, workspace, scene(width, height, 0, 0, 1), width, height);
  const Held moving = ridges_of(context, workspace, scene(67, 45, 0, 0, 1), 67, 45);
  Refinement out;
  cpu::refine(context, workspace, fixed.map, moving.map, {}, {}, &out);
  CHECK(out.score_after >= out.score_before);
  cpu::refine(context, workspace, moving.map, fixed.map, scaling(1e6, -1e9, 1e9), {}, &out);
  CHECK(out.refused);
  const FieldOptions options;
  std::vector<double> control(static_cast<std::size_t>(field_capacity(options)));
  FieldRefinement field;
  cpu::refine_field(context, workspace, fixed.map, moving.map, {}, options, control.data(), &field);
  CHECK(field.field.empty());
}

}  // namespace

int main() {
  for (const int threads : {1, 3}) {
    finds_a_shift(192, 160, threads);
    finds_a_shift(187, 163, threads);
    finds_a_field(192, 160, threads);
    finds_a_field(187, 163, threads);
  }
  for (int n = 1; n < 20; ++n) survives_small(n, 20 - n);
  return 0;
}
