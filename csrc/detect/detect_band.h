// A band of the confidence map: the groups of four rows that a chunk of detect searches, with the rows around them that
// their windows reach.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace fastretina::cpu {

// expanded: pointers to the expanded rows (upsample_rows.h) of source rows first - 2 ... last + 1, repeated at the
// edges. Writes output rows 4 first ... 4 last - 1 to `band`, whose stride is a multiple of 16 and holds whole vectors.
// flags (scan's first sieve, words a row = flag_words(band.width)) are right for every row but the band's first and
// last, and for those too where the map ends.
void fill_band_avx512(const float* const* expanded, int first, int last, float threshold, View<float> band,
                      std::uint16_t* flags);

}  // namespace fastretina::cpu
