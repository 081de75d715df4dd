// The nouns that every room shares. Plain values, no behaviour.
//
// Pixel convention (docs/CONVENTIONS.md): (x, y), pixel centres at integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/hd.h"

namespace fastretina {

struct Size {
  int width = 0;
  int height = 0;
};

// A strided 2-D plane that somebody else owns. `stride` counts elements from one row to the next.
template <class T>
struct View {
  T* data = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;

  View() = default;
  FR_HD View(T* data_, int width_, int height_) : data(data_), width(width_), height(height_), stride(width_) {}
  FR_HD View(T* data_, int width_, int height_, std::ptrdiff_t stride_)
      : data(data_), width(width_), height(height_), stride(stride_) {}
  // A view of mutable elements is also a view of constant ones.
  template <class U>
    requires std::is_convertible_v<U (*)[], T (*)[]>
  FR_HD View(const View<U>& other) : data(other.data), width(other.width), height(other.height), stride(other.stride) {}

  FR_HD T* row(int y) const { return data + y * stride; }
  FR_HD bool empty() const { return data == nullptr || width <= 0 || height <= 0; }
};

enum class PixelType : int { u8 = 0, u16 = 1, f32 = 2 };

// An interleaved image as the caller holds it. f32 is in [0, 1]; integers span their type's range.
struct Image {
  const void* data = nullptr;
  int width = 0;
  int height = 0;
  int channels = 1;              // 1 (gray) or 3 (RGB)
  std::ptrdiff_t row_bytes = 0;  // from one row to the next
  PixelType type = PixelType::u8;
};

// Key points as parallel arrays. `count` lives beside the data (on the device, for a CUDA twin), so that rooms
// can follow one another without a host round trip. Entries past `*count` are unspecified.
struct Keypoints {
  float* xy = nullptr;     // capacity x 2, pixels
  float* score = nullptr;  // capacity, sorted by better()
  int* count = nullptr;    // 1
  int capacity = 0;
};

// Unit descriptor rows of one image.
struct Descriptors {
  const float* rows = nullptr;  // capacity x dims, each row of L2 norm 1 (or all zero)
  const int* count = nullptr;   // 1
  int capacity = 0;
  int dims = 0;
};

// Mutual nearest neighbours, ordered by better(score, fixed index).
struct Matches {
  int* fixed = nullptr;    // capacity, row in the FIXED set
  int* moving = nullptr;   // capacity, row in the MOVING set
  float* score = nullptr;  // capacity, cosine similarity
  int* count = nullptr;    // 1
  int capacity = 0;        // at least the smaller of the two sets' counts: no row is matched twice
};

// Corresponding points, best first when they are score-sorted.
struct PointPairs {
  const float* fixed_xy = nullptr;   // capacity x 2
  const float* moving_xy = nullptr;  // capacity x 2
  const float* weight = nullptr;     // capacity, or NULL for all ones
  const int* count = nullptr;        // 1
  int capacity = 0;
};

enum class TransformKind : int { identity = 0, similarity = 1, affine = 2, homography = 3, quadratic = 4 };

// Maps MOVING (x, y) to FIXED. Matrix kinds use `p` as a row-major 3 x 3 matrix (p[0..8]); the quadratic is
//   x' = p0 + p1 x + p2 y + p3 x^2 + p4 x y + p5 y^2,   y' = p6 + p7 x + ... + p11 y^2.
struct Transform {
  TransformKind kind = TransformKind::identity;
  double p[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
};

// x' = x + d(x), d a uniform cubic B-spline of control displacements that somebody else owns (core/field.h). Where there
// is no control point it counts as 0, so that d fades to 0 within two steps outside the grid.
struct Field {
  const double* control = nullptr;  // rows x columns x 2: dx, dy, px
  int columns = 0, rows = 0;        // 0: no field
  double x0 = 0, y0 = 0;            // of the first control point, px
  double step_x = 1, step_y = 1;    // from one control point to the next, px

  FR_HD bool empty() const { return columns <= 0 || rows <= 0; }
};

// MOVING (x, y) to FIXED: first the transform, then the field, which lies in FIXED. A Transform alone is one, too.
struct Deformation {
  Transform base;
  Field field;

  Deformation() = default;
  Deformation(const Transform& transform) : base(transform) {}
  Deformation(const Transform& transform, const Field& field_) : base(transform), field(field_) {}
};

enum class Precision : int { f32 = 0, bf16 = 1, f16 = 2, i8 = 3 };

}  // namespace fastretina
