#include "core/field.h"

#include <algorithm>

namespace fastretina {

double least_jacobian(const Field& f) {
  double least = 1;  // beyond the grid
  if (f.empty()) return least;
  for (int j = 0; j < 2 * f.rows + 7; ++j)
    for (int i = 0; i < 2 * f.columns + 7; ++i) least = std::min(least, determinant_at(f, i, j));
  return least;
}

}  // namespace fastretina
