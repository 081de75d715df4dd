#include "nms/nms_scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/target.h"
#include "nms/nms_math.h"

namespace fastretina::cpu {
namespace {

// flags[x] = 1: above the threshold and before its four neighbours. `row` has width > 0 elements; above and below are
// rows of the same width or NULL. Inlined into one function a target, for the compiler to vectorise.
FR_INLINE void flag_row_loop(const float* row, const float* above, const float* below, int width, float threshold,
                             std::uint8_t* __restrict flags) {
  for (int x = 0; x < width; ++x) flags[x] = row[x] > threshold;
  if (above)
    for (int x = 0; x < width; ++x) flags[x] &= !suppresses(above[x], true, row[x]);
  if (below)
    for (int x = 0; x < width; ++x) flags[x] &= !suppresses(below[x], false, row[x]);
  for (int x = 1; x < width; ++x) flags[x] &= !suppresses(row[x - 1], true, row[x]);
  for (int x = 0; x + 1 < width; ++x) flags[x] &= !suppresses(row[x + 1], false, row[x]);
}

using FlagRow = void (*)(const float*, const float*, const float*, int, float, std::uint8_t*);

void flag_row_plain(const float* row, const float* above, const float* below, int width, float threshold,
                    std::uint8_t* flags) {
  flag_row_loop(row, above, below, width, threshold, flags);
}

#if FR_X86
FR_AVX2 void flag_row_avx2(const float* row, const float* above, const float* below, int width, float threshold,
                           std::uint8_t* flags) {
  flag_row_loop(row, above, below, width, threshold, flags);
}
#endif

bool first_in_window(const Rows& rows, int radius, int x, int y) {
  const float score = rows[y][x];
  const int x0 = std::max(x - radius, 0), x1 = std::min(x + radius, rows.width - 1);
  const int y0 = std::max(y - radius, rows.top), y1 = std::min(y + radius, rows.bottom - 1);
  for (int v = y0; v <= y1; ++v)
    for (int u = x0; u <= x1; ++u)
      if (suppresses(rows[v][u], v < y || (v == y && u < x), score)) return false;
  return true;
}

int scan_row_plain(const Scan& scan, const Rows& rows, int y, FlagRow flag_row, std::uint8_t* flags, Candidate* found) {
  const float* row = rows[y];
  const int width = rows.width;
  if (scan.radius > 0)
    flag_row(row, y > rows.top ? rows[y - 1] : nullptr, y + 1 < rows.bottom ? rows[y + 1] : nullptr, width,
             scan.threshold, flags);
  else
    for (int x = 0; x < width; ++x) flags[x] = row[x] > scan.threshold;
  std::memset(flags + width, 0, 8);

  const std::uint8_t* mask = scan.mask.empty() ? nullptr : scan.mask.row(y);
  const auto base = static_cast<std::uint32_t>(y) * static_cast<std::uint32_t>(width);
  int n = 0;
  for (int x8 = 0; x8 < width; x8 += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, flags + x8, sizeof eight);
    if (eight == 0) continue;
    for (int x = x8; x < std::min(x8 + 8, width); ++x)
      if (flags[x] && (!mask || mask[x]) && first_in_window(rows, scan.radius, x, y))
        found[n++] = {row[x], base + static_cast<std::uint32_t>(x)};
  }
  return n;
}

}  // namespace

std::int64_t max_found(int rows, int width, int radius) {
  const std::int64_t pitch = std::int64_t{radius} + 1;
  return ((rows + pitch - 1) / pitch) * ((width + pitch - 1) / pitch);
}

// scan_row_avx512 needs most: the columns, the words that have a flag, the flags.
std::size_t scan_scratch_bytes(int width) {
  const auto stride = static_cast<std::size_t>(flag_stride(width));
  return (16 * stride + stride + 16) * sizeof(int) + stride * sizeof(std::uint16_t);
}

int scan_row(const Scan& scan, const Rows& rows, int y, const std::uint16_t* flags, void* scratch, Candidate* found) {
#if FR_X86
  if (scan.radius > 0 && simd_level() >= SimdLevel::avx512)
    return scan_row_avx512(scan, rows, y, flags, scratch, found);
  const FlagRow flag_row = simd_level() >= SimdLevel::avx2 ? flag_row_avx2 : flag_row_plain;
#else
  const FlagRow flag_row = flag_row_plain;
#endif
  (void)flags;
  return scan_row_plain(scan, rows, y, flag_row, static_cast<std::uint8_t*>(scratch), found);
}

void check_options(const NmsOptions& options, int width, int height, View<const std::uint8_t> mask,
                   const Keypoints& out) {
  require(options.radius >= 0 && options.radius <= 255, "radius", std::to_string(options.radius), "0 ... 255");
  require(options.max_keypoints >= 1, "max_keypoints", std::to_string(options.max_keypoints), "at least 1");
  require(!std::isnan(options.threshold), "threshold", "NaN", "a number");
  require(static_cast<std::int64_t>(width) * height < (std::int64_t{1} << 31), "confidence",
          std::to_string(width) + " x " + std::to_string(height), "fewer than 2^31 pixels");
  require(mask.empty() || (mask.width == width && mask.height == height), "mask",
          std::to_string(mask.width) + " x " + std::to_string(mask.height), "the map's size, or empty");
  require(out.capacity >= options.max_keypoints, "out.capacity", std::to_string(out.capacity),
          "at least max_keypoints");
}

}  // namespace fastretina::cpu
