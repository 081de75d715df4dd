// What decides a value in quality: the local shape of a map. (The confidence is one sum, in quality.cpp.)
#pragma once

#include <cmath>

#include "core/transform.h"

namespace fastretina::quality_math {

// Ratio of the singular values of a 2 x 2 map, >= 1; infinite where it is singular.
FR_HD double anisotropy(const Jacobian& j) {
  const double e = 0.5 * (j.a + j.d), f = 0.5 * (j.a - j.d), g = 0.5 * (j.c + j.b), h = 0.5 * (j.c - j.b);
  const double q = std::sqrt(e * e + h * h), r = std::sqrt(f * f + g * g);
  const double small = std::fabs(q - r);
  return small > 0 ? (q + r) / small : HUGE_VAL;
}

// Degrees in (-180, 180]. A map that mirrors is this rotation after x -> -x.
FR_HD double rotation_deg(const Jacobian& j) {
  constexpr double kDegrees = 57.295779513082320876798;
  const double angle = j.determinant() < 0 ? std::atan2(-(j.b + j.c), j.d - j.a) : std::atan2(j.c - j.b, j.a + j.d);
  return kDegrees * angle;
}

}  // namespace fastretina::quality_math
