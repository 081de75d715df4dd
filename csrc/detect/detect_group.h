// One group of the confidence map: the four rows that lie in one row of cells.
#pragma once

#include <cstdint>

namespace fastretina::cpu {

// expanded[k]: the expanded row (upsample_rows.h) of source row i - 2 + k, repeated at the edges. Writes the four rows
// of group i to out[0 ... 3]. above[0], above[1]: the last two rows of the group before, or NULL.
// Writes the first sieve's flags (nms_scan.h) of rows 0 ... 2 to flags, and that of above[1] to flags_above unless
// NULL; the flags of row 3 wait for the next group.
void fill_group_avx512(const float* const expanded[5], const float* const above[2], int width, float threshold,
                       float* const out[4], std::uint16_t* flags_above, std::uint16_t* flags, int flag_stride);

}  // namespace fastretina::cpu
