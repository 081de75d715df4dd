// warp against the CPU: matrices to the bit. Quadratics and fields are solved from another start, to 5e-5 px at worst
// (warp_math.h), which random pixels of 0 ... 255 turn into 0.03, and rounding into one step of an integer.
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/rng.h"
#include "device.h"

using namespace fastretina;
using namespace fastretina::test;

namespace {

struct Case {
  Transform base;
  bool field = false, exact = true;
};

template <class T>
void check(Device& device, PixelType type, const Case& c, const std::vector<double>& control,
           Interpolation interpolation, Size from, Size to, int channels) {
  std::vector<T> data(static_cast<std::size_t>(from.width * from.height * channels));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<T>(random_below(random_bits(3, 1, i), 256));
  const auto row_bytes = [&](int width) { return static_cast<std::ptrdiff_t>(sizeof(T)) * width * channels; };
  const auto size = static_cast<std::size_t>(to.width * to.height);
  std::vector<T> expected(size * static_cast<std::size_t>(channels));
  std::vector<std::uint8_t> valid(size);
  const Context context(1);
  static Workspace workspace;
  const auto map = [&](const double* points) {
    return c.field ? Deformation(c.base, {points, 5, 4, 3.5, -2.0, 17.0, 14.0}) : Deformation(c.base);
  };
  cpu::warp(context, workspace, {data.data(), from.width, from.height, channels, row_bytes(from.width), type},
            map(control.data()), {interpolation},
            {expected.data(), to.width, to.height, channels, row_bytes(to.width), type},
            {valid.data(), to.width, to.height});

  const Array<T> moving(data), out(expected.size());
  const Array<std::uint8_t> device_valid(size);
  const Array<double> device_control(control);
  const Array<Deformation> device_map(std::vector<Deformation>{map(device_control.data())});
  cuda_backend()->warp(
      device.context, device.workspace, {moving.data(), from.width, from.height, channels, row_bytes(from.width), type},
      *device_map.data(), {interpolation}, {out.data(), to.width, to.height, channels, row_bytes(to.width), type},
      {device_valid.data(), to.width, to.height});
  const std::vector<T> got = out.get();
  CHECK(same_bits(device_valid.get(), valid));
  if (c.exact) {
    CHECK(same_bits(got, expected));
  } else if (interpolation != Interpolation::nearest) {
    for (std::size_t i = 0; i < got.size(); ++i)
      CHECK(std::fabs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) <=
            (type == PixelType::f32 ? 0.03 : 1));
  }
}

}  // namespace

int main() {
  Device device;
  std::vector<double> control(40);
  for (std::size_t i = 0; i < control.size(); ++i) control[i] = random_below(random_bits(5, 1, i), 80) / 10.0 - 4;
  const Transform quadratic{TransformKind::quadratic,
                            {2.1, 1.05, 0.02, 1e-3, -5e-4, 2e-4, -3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3}};
  const Transform folds{TransformKind::quadratic,
                        {2.1, 1.05, 0.02, -9e-3, 0, 2e-4, -3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3}};
  const Transform pole{TransformKind::homography, {1.1, 0.1, -5.2, -0.1, 0.9, 6.1, -2e-2, 3e-3, 1}};
  const Case cases[] = {{{}},
                        {{TransformKind::similarity, {0.9, -0.4, 20.3, 0.4, 0.9, -4.1, 0, 0, 1}}},
                        {{TransformKind::affine, {-0.5, 0.1, 60.2, 0.2, 2.3, -9.7, 0, 0, 1}}},
                        {pole},
                        {quadratic, false, false},
                        {folds, false, false},
                        {pole, true, false},
                        {quadratic, true, false}};
  for (const Case& c : cases)
    for (const Interpolation i : {Interpolation::nearest, Interpolation::linear, Interpolation::cubic}) {
      check<std::uint8_t>(device, PixelType::u8, c, control, i, {70, 50}, {130, 41}, 1);
      check<std::uint16_t>(device, PixelType::u16, c, control, i, {33, 40}, {64, 20}, 3);
      check<float>(device, PixelType::f32, c, control, i, {50, 61}, {65, 30}, 2);
    }
  for (const int side : {1, 2, 3, 5})
    check<std::uint8_t>(device, PixelType::u8, cases[1], control, Interpolation::cubic, {side, 6 - side}, {5, side}, 4);

  // No inverse: nothing is valid.
  Transform singular{TransformKind::affine, {1, 2, 0, 2, 4, 0, 0, 0, 1}};
  const Array<Deformation> map(std::vector<Deformation>{singular});
  const Array<std::uint8_t> moving(std::vector<std::uint8_t>(100, 9)), out(100), valid(100);
  cuda_backend()->warp(device.context, device.workspace, {moving.data(), 10, 10, 1, 10, PixelType::u8}, *map.data(), {},
                       {out.data(), 10, 10, 1, 10, PixelType::u8}, {valid.data(), 10, 10});
  CHECK(valid.get() == std::vector<std::uint8_t>(100, 0) && out.get() == std::vector<std::uint8_t>(100, 0));
}
