#include "core/field.h"

#include <algorithm>

namespace fastretina {

double least_jacobian(const Field& f) {
  double least = 1;  // beyond the grid
  if (f.empty()) return least;
  for (int j = -4; j <= 2 * f.rows + 2; ++j)
    for (int i = -4; i <= 2 * f.columns + 2; ++i) {
      const Point q{f.x0 + 0.5 * i * f.step_x, f.y0 + 0.5 * j * f.step_y};
      least = std::min(least, jacobian(f, q).determinant());
    }
  return least;
}

}  // namespace fastretina
