// warp for every type, channel count, interpolation and kind: in bounds, the same bits at every SIMD level, and the
// identity changes nothing.
#include <vector>

#include "check.h"
#include "core/rng.h"
#include "core/simd.h"
#include "warp/warp.h"

using namespace fastretina;

namespace {

struct Result {
  std::vector<std::byte> image;
  std::vector<std::uint8_t> valid;
  bool operator==(const Result&) const = default;
};

Result run(int threads, const Image& moving, const Deformation& t, Interpolation interpolation, int width, int height) {
  const Context context(threads);
  Workspace workspace;
  const std::ptrdiff_t row = moving.row_bytes / moving.width * width;
  Result r;
  r.image.assign(static_cast<std::size_t>(row) * height, std::byte{7});
  r.valid.assign(static_cast<std::size_t>(width) * height, 7);
  const MutableImage out{r.image.data(), width, height, moving.channels, row, moving.type};
  cpu::warp(context, workspace, moving, t, {interpolation}, out, {r.valid.data(), width, height});
  return r;
}

std::vector<double> control_points(int count) {
  std::vector<double> control(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < control.size(); ++i) control[i] = random_below(random_bits(5, 1, i), 80) / 10.0 - 4;
  return control;
}

// `control`: of the fields, 5 x 4 points.
std::vector<Deformation> transforms(const std::vector<double>& control) {
  std::vector<Deformation> list(1);
  const auto add = [&](TransformKind kind, std::vector<double> p) {
    Transform t;
    t.kind = kind;
    std::copy(p.begin(), p.end(), t.p);
    list.push_back(t);
  };
  add(TransformKind::similarity, {0.9, -0.4, 20.3, 0.4, 0.9, -4.1, 0, 0, 1});
  add(TransformKind::affine, {-0.5, 0.1, 60.2, 0.2, 2.3, -9.7, 0, 0, 1});
  add(TransformKind::homography, {1.1, 0.1, -5.2, -0.1, 0.9, 6.1, -2e-2, 3e-3, 1});
  add(TransformKind::quadratic, {2.1, 1.05, 0.02, 1e-3, -5e-4, 2e-4, -3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3});
  add(TransformKind::quadratic, {2.1, 1.05, 0.02, -9e-3, 0, 2e-4, -3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3});
  for (const std::size_t base : {3, 4}) list.push_back({list[base].base, {control.data(), 5, 4, 3.5, -2.0, 17.0, 14.0}});
  return list;
}

template <class T>
void check(PixelType type, int width, int height, int channels) {
  std::vector<T> data(static_cast<std::size_t>(width) * height * channels);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<T>(random_below(random_bits(3, 1, i), 256));
  Image moving;
  moving.data = data.data();
  moving.width = width;
  moving.height = height;
  moving.channels = channels;
  moving.row_bytes = static_cast<std::ptrdiff_t>(sizeof(T)) * width * channels;
  moving.type = type;
  const std::vector<double> control = control_points(2 * 5 * 4);
  for (const auto interpolation : {Interpolation::nearest, Interpolation::linear, Interpolation::cubic}) {
    const Result same = run(1, moving, {}, interpolation, width, height);
    CHECK(same.image.size() == data.size() * sizeof(T));
    CHECK(std::equal(same.image.begin(), same.image.end(), reinterpret_cast<const std::byte*>(data.data())));
    for (const Deformation& t : transforms(control)) {
      limit_simd_level(SimdLevel::scalar);
      const Result expected = run(1, moving, t, interpolation, 83, 45);
      for (const std::uint8_t v : expected.valid) CHECK(v <= 1);
      for (int level = 0; level <= 3; ++level) {
        limit_simd_level(static_cast<SimdLevel>(level));
        for (int threads = 1; threads <= 2; ++threads)
          CHECK(run(threads, moving, t, interpolation, 83, 45) == expected);
      }
    }
  }
}

}  // namespace

int main() {
  for (const int channels : {1, 2, 3, 4})
    for (const int width : {1, 3, 5, 64, 150}) {
      check<std::uint8_t>(PixelType::u8, width, 41, channels);
      check<std::uint16_t>(PixelType::u16, width, 41, channels);
      check<float>(PixelType::f32, width, 41, channels);
    }
}
