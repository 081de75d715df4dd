// One group of the confidence map: the four rows that lie in one row of cells.
//
// With a radius of 4, every pixel of a group has the whole group in its window's rows, and so the row before it and the
// row after it. A column of the group therefore holds at most one key point, its first highest pixel, and the sieves
// look at columns: a quarter of the work of looking at rows.
#pragma once

#include <cstdint>

#include "nms/nms_scan.h"

namespace fastretina::cpu {

// expanded[k]: the expanded row (upsample_rows.h) of source row i - 2 + k, repeated at the edges. Writes the four rows
// of group i to out[0 ... 3]. above[0], above[1]: the last two rows of the group before, or NULL.
// Writes the first sieve's flags (nms_scan.h) of rows 0 ... 2 to flags, and that of above[1] to flags_above unless
// NULL; the flags of row 3 wait for the next group.
void fill_group_avx512(const float* const expanded[5], const float* const above[2], int width, float threshold,
                       float* const out[4], std::uint16_t* flags_above, std::uint16_t* flags, int flag_stride);

// The same rows for a radius of 4, -inf from `width` to the end of the last vector; `highest`: of each column, followed
// by two vectors of -inf, which the caller provides. Bit l of flags[x / 16]: column x + l is highest within 4 columns,
// exceeds the threshold and the row before (`above`; -inf at the map's edge). A tie leaves a bit for each column.
void fill_columns_avx512(const float* const expanded[5], const float* above, int width, float threshold,
                         float* const out[4], float* highest, std::uint16_t* flags);

// A group whose rows, and those of its two neighbours, are complete. Outside the map: rows of -inf, as are the four
// elements on either side of a row.
struct Group {
  int y;  // of its first row
  const float* own[4];
  const float* near[8];  // the four rows before it, the four rows after it
  const float* highest;
  const std::uint16_t* flags;  // flag_stride words, a zero before and after
};

// The key points of a group, radius 4, in no particular order; returns how many. Writes at most `width` + 1 elements.
// `rows` are the same rows as those of `group`, for the exact look at ties. `scratch`: scan_scratch_bytes.
int scan_group_avx512(const Scan& scan, const Rows& rows, const Group& group, void* scratch, Candidate* found);

}  // namespace fastretina::cpu
