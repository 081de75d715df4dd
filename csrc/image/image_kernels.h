// The inner loops of the room `image`, dispatched by SIMD level. Row buffers are padded to kRowPad elements.
#pragma once

#include <cstdint>

namespace fastretina::image_kernels {

constexpr int kRowPad = 64;  // elements: every row buffer may be read and written up to the next multiple

// Rows of interleaved RGB -> one channel.
void green_u8(const std::uint8_t* rgb, std::uint8_t* out, int n);
void green_u16(const std::uint16_t* rgb, std::uint16_t* out, int n);
void green_f32(const float* rgb, float* out, int n);
void luma_u8(const std::uint8_t* rgb, float* out, int n);
void luma_u16(const std::uint16_t* rgb, float* out, int n);
void luma_f32(const float* rgb, float* out, int n);

// Largest element; for f32 also whether all are within [low, high] (NaN is not).
void max_u8(const std::uint8_t* row, int n, std::uint8_t* result);
void max_u16(const std::uint16_t* row, int n, std::uint16_t* result);
void range_f32(const float* row, int n, float low, float high, bool* inside);
void max_f32(const float* row, int n, float* result);

// sums[x] (+)= weights[0] rows[0][x] + ... in that order, `count` rows (1...4).
struct RowGroup {
  const void* rows[4];
  float weights[4];
  int count;
  bool first;  // the sums start here
};
void add_rows_u8(float* sums, const RowGroup& group, int n);
void add_rows_u16(float* sums, const RowGroup& group, int n);
void add_rows_f32(float* sums, const RowGroup& group, int n);

// One resized row: out[i] = unit_range(unit * sum over t of weights[t * stride + i] sums[first[i] + t]).
struct Taps {
  const int* first;      // padded
  const float* weights;  // count x stride
  int count;
  int stride;
  bool narrow;  // 16 neighbouring outputs read at most 32 neighbouring sums
};
void resize_row(float* out, const float* sums, const Taps& taps, int n, float unit);

// bits: one bit a pixel, 64 a word.
void dark_bits(const float* row, int n, float threshold, std::uint64_t* bits);
void bits_to_bytes(const std::uint64_t* bits, int n, std::uint8_t* bytes);

// For order statistics of values whose bit patterns have the values' order.
void count_up_to(const std::uint32_t* values, int n, std::uint32_t limit, int* count);
struct Between {
  int below = 0, found = 0;
};
// Appends the bit patterns in [low, high] to `out` (at out + found; 16 elements of slack), counts those below.
void pick_between(const float* values, int n, std::uint32_t low, std::uint32_t high, std::uint32_t* out,
                  Between* result);

// Adds the masked intensities to 16 lanes.
void masked_sum(const float* row, const std::uint64_t* bits, int n, float* lanes);

// Sums of 4 x 4-pixel cells of m, m (I - shift) and m (I - shift)^2. Missing rows are NULL.
struct CellRows {
  const float* rows[4];
  const std::uint8_t* masks[4];
  const std::uint64_t* bits[4];  // the same masks
  float shift;
};
void cell_sums(const CellRows& in, int cells, float* s0, float* s1, float* s2);

// out[x] = in[x - 3] + ... + in[x + 3]; and the same down seven rows.
void box_row(const float* in, float* out, int n);
void box_column(const float* const* rows, float* out, int n);

void cell_statistics(const float* s0, const float* s1, const float* s2, const float* own_s0, int cells, float shift,
                     float* mean, float* sd, float* sd_lanes);

// cells[-1] and cells[n] repeat the ends. out has 4 n elements.
void cells_to_pixels(const float* cells, int n, float* out);

struct NormaliseRow {
  const float *mean_a, *mean_b, *sd_a, *sd_b;  // statistics of the cell rows above and below, at pixels
  float fraction, offset, clip;
};
void normalise_row(const float* row, const std::uint8_t* mask, const NormaliseRow& statistics, int n, float* out);

namespace avx512 {
void resize_row(float* out, const float* sums, const Taps& taps, int n, float unit);
void dark_bits(const float* row, int n, float threshold, std::uint64_t* bits);
void bits_to_bytes(const std::uint64_t* bits, int n, std::uint8_t* bytes);
void masked_sum(const float* row, const std::uint64_t* bits, int n, float* lanes);
void cell_sums(const CellRows& in, int cells, float* s0, float* s1, float* s2);
void pick_between(const float* values, int n, std::uint32_t low, std::uint32_t high, std::uint32_t* out,
                  Between* result);
}  // namespace avx512

}  // namespace fastretina::image_kernels
