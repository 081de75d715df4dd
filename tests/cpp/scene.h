// What the tests of the pipeline and of the C ABI look at: a scene that photographs show, and a network made of fixed
// filters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/field.h"
#include "network/network.h"

namespace fastretina {

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

// One control point in the middle of the scene: 4 px there, and a smooth way down to nothing 130 px off.
inline Field bump() {
  static constexpr double kControl[] = {7.9, -4.5};
  return {kControl, 1, 1, kWidth / 2.0, kHeight / 2.0, 65, 65};
}

// What a camera sees whose pixel q shows the scene at T(q).
struct Photograph {
  std::vector<std::uint8_t> pixels;
  int width, height;

  Photograph(const Scene& scene, const Deformation& T, int width_, int height_) : width(width_), height(height_) {
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

}  // namespace fastretina
