#include "image/image_kernels.h"

#include <bit>
#include <cmath>

#include "core/target.h"
#include "image/image_math.h"

namespace fastretina::image_kernels {

using namespace image_math;

namespace {

template <class T>
FR_INLINE void green(const T* rgb, T* out, int n) {
  for (int i = 0; i < n; ++i) out[i] = rgb[3 * i + 1];
}

template <class T>
FR_INLINE void luma_row(const T* rgb, float* out, int n) {
  for (int i = 0; i < n; ++i)
    out[i] =
        luma(static_cast<float>(rgb[3 * i]), static_cast<float>(rgb[3 * i + 1]), static_cast<float>(rgb[3 * i + 2]));
}

template <class T>
FR_INLINE void max_row(const T* row, int n, T* result) {
  T best = *result;
  for (int i = 0; i < n; ++i) best = row[i] > best ? row[i] : best;
  *result = best;
}

template <class T, int N, bool First>
FR_INLINE void add_rows_fixed(float* sums, const RowGroup& group, int n) {
  const T* rows[N];
  float w[N];
  for (int k = 0; k < N; ++k) rows[k] = static_cast<const T*>(group.rows[k]), w[k] = group.weights[k];
  for (int x = 0; x < n; ++x) {
    float sum = First ? 0.f : sums[x];
    for (int k = 0; k < N; ++k) sum = std::fmaf(w[k], static_cast<float>(rows[k][x]), sum);
    sums[x] = sum;
  }
}

template <class T, bool First>
FR_INLINE void add_rows_any(float* sums, const RowGroup& group, int n) {
  if (group.count == 1) add_rows_fixed<T, 1, First>(sums, group, n);
  if (group.count == 2) add_rows_fixed<T, 2, First>(sums, group, n);
  if (group.count == 3) add_rows_fixed<T, 3, First>(sums, group, n);
  if (group.count == 4) add_rows_fixed<T, 4, First>(sums, group, n);
}

template <class T>
FR_INLINE void add_rows(float* sums, const RowGroup& group, int n) {
  if (group.first)
    add_rows_any<T, true>(sums, group, n);
  else
    add_rows_any<T, false>(sums, group, n);
}

FR_INLINE void resize_row_body(float* out, const float* sums, const Taps& taps, int n, float unit) {
  for (int i = 0; i < n; ++i) {
    float sum = 0;
    for (int t = 0; t < taps.count; ++t)
      sum = std::fmaf(taps.weights[t * taps.stride + i], sums[taps.first[i] + t], sum);
    out[i] = unit_range(unit * sum);
  }
}

FR_INLINE void dark_bits_body(const float* row, int n, float threshold, std::uint64_t* bits) {
  for (int word = 0; 64 * word < n; ++word) {
    const int count = n - 64 * word < 64 ? n - 64 * word : 64;
    std::uint64_t packed = 0;
    for (int i = 0; i < count; ++i) packed |= static_cast<std::uint64_t>(row[64 * word + i] < threshold) << i;
    bits[word] = packed;
  }
}

FR_INLINE void bits_to_bytes_body(const std::uint64_t* bits, int n, std::uint8_t* bytes) {
  for (int word = 0; 64 * word < n; ++word)
    for (int i = 0; i < 64; ++i) bytes[64 * word + i] = static_cast<std::uint8_t>((bits[word] >> i) & 1);
}

FR_INLINE void masked_sum_body(const float* row, const std::uint64_t* bits, int n, float* lanes) {
  for (int x = 0; x < n; ++x) lanes[x % kLanes] += (bits[x / 64] >> (x % 64)) & 1 ? row[x] : 0.f;
}

FR_INLINE void count_up_to_body(const std::uint32_t* values, int n, std::uint32_t limit, int* count) {
  int found = 0;
  for (int i = 0; i < n; ++i) found += values[i] <= limit ? 1 : 0;
  *count = found;
}

FR_INLINE void pick_between_body(const float* values, int n, std::uint32_t low, std::uint32_t high, std::uint32_t* out,
                                 Between* result) {
  Between r = *result;
  for (int i = 0; i < n; ++i) {
    const auto v = std::bit_cast<std::uint32_t>(values[i]);
    out[r.found] = v;
    r.below += v < low ? 1 : 0;
    r.found += (v >= low) & (v <= high) ? 1 : 0;
  }
  *result = r;
}

// Cell = (c0 + c1) + (c2 + c3) of column sums, a column = rows added downwards.
FR_INLINE void cell_sums_body(const CellRows& in, int cells, float* s0, float* s1, float* s2) {
  constexpr int kBlock = 64;  // cells
  float c0[4 * kBlock], c1[4 * kBlock], c2[4 * kBlock];
  for (int start = 0; start < cells; start += kBlock) {
    const int count = cells - start < kBlock ? cells - start : kBlock, pixels = 4 * count;
    for (int x = 0; x < pixels; ++x) c0[x] = c1[x] = c2[x] = 0;
    for (int r = 0; r < 4; ++r) {
      if (!in.rows[r]) continue;
      const float* row = in.rows[r] + 4 * start;
      const std::uint8_t* mask = in.masks[r] + 4 * start;
      for (int x = 0; x < pixels; ++x) {
        const float d = mask[x] ? row[x] - in.shift : 0.f;
        c0[x] += static_cast<float>(mask[x]);
        c1[x] += d;
        c2[x] = std::fmaf(d, d, c2[x]);
      }
    }
    for (int i = 0; i < count; ++i) {
      s0[start + i] = (c0[4 * i] + c0[4 * i + 1]) + (c0[4 * i + 2] + c0[4 * i + 3]);
      s1[start + i] = (c1[4 * i] + c1[4 * i + 1]) + (c1[4 * i + 2] + c1[4 * i + 3]);
      s2[start + i] = (c2[4 * i] + c2[4 * i + 1]) + (c2[4 * i + 2] + c2[4 * i + 3]);
    }
  }
}

FR_INLINE void box_row_body(const float* in, float* out, int n) {
  for (int x = 0; x < n; ++x) {
    float sum = in[x - kBoxRadius];
    for (int k = 1 - kBoxRadius; k <= kBoxRadius; ++k) sum += in[x + k];
    out[x] = sum;
  }
}

FR_INLINE void box_column_body(const float* const* rows, float* out, int n) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5], *r6 = rows[6];
  for (int x = 0; x < n; ++x) out[x] = (((((r0[x] + r1[x]) + r2[x]) + r3[x]) + r4[x]) + r5[x]) + r6[x];
}

FR_INLINE void cell_statistics_body(const float* s0, const float* s1, const float* s2, const float* own_s0, int cells,
                                    float shift, float* mean, float* sd, float* sd_lanes) {
  for (int x = 0; x < cells; ++x) {
    const bool seen = s0[x] > 0;
    const float n = seen ? s0[x] : 1.f;
    mean[x] = seen ? s1[x] / n + shift : 0.f;
    sd[x] = seen ? deviation(n, s1[x], s2[x]) : 0.f;
  }
  for (int x = 0; x < cells; ++x) sd_lanes[x % kLanes] += own_s0[x] > 0 ? sd[x] : 0.f;
}

FR_INLINE void cells_to_pixels_body(const float* cells, int n, float* out) {
  for (int c = 0; c < n; ++c) {
    const float left = cells[c - 1], own = cells[c], right = cells[c + 1];
    out[4 * c] = lerp(left, own, 0.625f);
    out[4 * c + 1] = lerp(left, own, 0.875f);
    out[4 * c + 2] = lerp(own, right, 0.125f);
    out[4 * c + 3] = lerp(own, right, 0.375f);
  }
}

FR_INLINE void normalise_row_body(const float* row, const std::uint8_t* mask, const NormaliseRow& s, int n,
                                  float* out) {
  for (int x = 0; x < n; ++x) {
    const float mean = lerp(s.mean_a[x], s.mean_b[x], s.fraction), sd = lerp(s.sd_a[x], s.sd_b[x], s.fraction);
    const float v = normalised(row[x], mean, sd, s.offset, s.clip);
    out[x] = mask[x] ? v : 0.f;
  }
}

template <class T>
FR_INLINE void range_row(const T* row, int n, T low, T high, bool* inside) {
  int outside = 0;  // an int: GCC does not vectorise the reduction of a bool
  for (int i = 0; i < n; ++i) outside |= (row[i] >= low) & (row[i] <= high) ? 0 : 1;
  *inside = outside == 0;
}

}  // namespace

#define green_u8_body green<std::uint8_t>
#define green_u16_body green<std::uint16_t>
#define green_f32_body green<float>
#define luma_u8_body luma_row<std::uint8_t>
#define luma_u16_body luma_row<std::uint16_t>
#define luma_f32_body luma_row<float>
#define max_u8_body max_row<std::uint8_t>
#define max_u16_body max_row<std::uint16_t>
#define max_f32_body max_row<float>
#define range_f32_body range_row<float>
#define add_rows_u8_body add_rows<std::uint8_t>
#define add_rows_u16_body add_rows<std::uint16_t>
#define add_rows_f32_body add_rows<float>

FR_DISPATCH(green_u8, (const std::uint8_t* rgb, std::uint8_t* out, int n), (rgb, out, n))
FR_DISPATCH(green_u16, (const std::uint16_t* rgb, std::uint16_t* out, int n), (rgb, out, n))
FR_DISPATCH(green_f32, (const float* rgb, float* out, int n), (rgb, out, n))
FR_DISPATCH(luma_u8, (const std::uint8_t* rgb, float* out, int n), (rgb, out, n))
FR_DISPATCH(luma_u16, (const std::uint16_t* rgb, float* out, int n), (rgb, out, n))
FR_DISPATCH(luma_f32, (const float* rgb, float* out, int n), (rgb, out, n))
FR_DISPATCH(max_u8, (const std::uint8_t* row, int n, std::uint8_t* result), (row, n, result))
FR_DISPATCH(max_u16, (const std::uint16_t* row, int n, std::uint16_t* result), (row, n, result))
FR_DISPATCH(max_f32, (const float* row, int n, float* result), (row, n, result))
FR_DISPATCH(range_f32, (const float* row, int n, float low, float high, bool* inside), (row, n, low, high, inside))
FR_DISPATCH(add_rows_u8, (float* sums, const RowGroup& group, int n), (sums, group, n))
FR_DISPATCH(add_rows_u16, (float* sums, const RowGroup& group, int n), (sums, group, n))
FR_DISPATCH(add_rows_f32, (float* sums, const RowGroup& group, int n), (sums, group, n))
FR_DISPATCH_512(masked_sum, (const float* row, const std::uint64_t* bits, int n, float* lanes), (row, bits, n, lanes))
FR_DISPATCH(count_up_to, (const std::uint32_t* values, int n, std::uint32_t limit, int* count),
            (values, n, limit, count))
FR_DISPATCH_512(pick_between,
                (const float* values, int n, std::uint32_t low, std::uint32_t high, std::uint32_t* out,
                 Between* result),
                (values, n, low, high, out, result))
FR_DISPATCH_512(cell_sums, (const CellRows& in, int cells, float* s0, float* s1, float* s2), (in, cells, s0, s1, s2))
FR_DISPATCH(box_row, (const float* in, float* out, int n), (in, out, n))
FR_DISPATCH(box_column, (const float* const* rows, float* out, int n), (rows, out, n))
FR_DISPATCH(cell_statistics,
            (const float* s0, const float* s1, const float* s2, const float* own_s0, int cells, float shift,
             float* mean, float* sd, float* sd_lanes),
            (s0, s1, s2, own_s0, cells, shift, mean, sd, sd_lanes))
FR_DISPATCH(cells_to_pixels, (const float* cells, int n, float* out), (cells, n, out))
FR_DISPATCH(normalise_row, (const float* row, const std::uint8_t* mask, const NormaliseRow& s, int n, float* out),
            (row, mask, s, n, out))

FR_DISPATCH_512(resize_row, (float* out, const float* sums, const Taps& taps, int n, float unit),
                (out, sums, taps, n, unit))
FR_DISPATCH_512(dark_bits, (const float* row, int n, float threshold, std::uint64_t* bits), (row, n, threshold, bits))
FR_DISPATCH_512(bits_to_bytes, (const std::uint64_t* bits, int n, std::uint8_t* bytes), (bits, n, bytes))

}  // namespace fastretina::image_kernels
