// Step 3 of the room `image`: the field of view.
#include <algorithm>
#include <bit>
#include <cstring>

#include "image/image_kernels.h"
#include "image/image_math.h"
#include "image/image_steps.h"

namespace fastretina::image_steps {
namespace {

using namespace image_kernels;
using namespace image_math;

// --- order statistics -------------------------------------------------------------------------------------------
// Intensities are in [+0, 1], so their bit patterns have the order of the values.
constexpr int kSampleStep = 16;  // px; one pixel of so many brackets the percentile

// The element of that rank in sorted order, known to lie in [low, high]: bisection of the bit pattern.
std::uint32_t select(const std::uint32_t* values, int count, std::int64_t rank, std::uint32_t low, std::uint32_t high) {
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    int upto = 0;
    count_up_to(values, count, middle, &upto);
    if (upto > rank)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// --- bit rows ---------------------------------------------------------------------------------------------------
void clear_bits(std::uint64_t* row, int begin, int end) {
  for (int word = begin / 64; word <= (end - 1) / 64; ++word) {
    const int low = std::max(begin - 64 * word, 0), high = std::min(end - 64 * word, 64);
    const std::uint64_t upto = high == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << high) - 1;
    row[word] &= ~(upto & (~std::uint64_t{0} << low));
  }
}

// First bit equal to `value` at or after `from`; `n` if there is none.
int find_bit(const std::uint64_t* row, int from, int n, bool value) {
  for (int word = from / 64; 64 * word < n; ++word) {
    std::uint64_t w = value ? row[word] : ~row[word];
    if (word == from / 64) w &= ~std::uint64_t{0} << (from % 64);
    if (w != 0) return std::min(64 * word + std::countr_zero(w), n);
  }
  return n;
}

// --- runs of dark pixels that hang together ---------------------------------------------------------------------
struct Run {
  int begin, end;
};

// Union-find in which the smallest index is the root; index 0 stands for "outside the frame".
struct Components {
  int* parent;
  int find(int i) const {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  }
  void join(int a, int b) const {
    a = find(a), b = find(b);
    parent[std::max(a, b)] = std::min(a, b);
  }
};

// Turns the dark bits into the valid ones: everything but the dark runs that are connected with the frame.
void keep_inside(Workspace& workspace, View<std::uint64_t> bits, int width) {
  Workspace::Frame frame(workspace);
  const int height = bits.height;
  const std::size_t most = static_cast<std::size_t>(height) * static_cast<std::size_t>(width / 2 + 1);
  Run* runs = workspace.take<Run>(most);
  const Components components{workspace.take<int>(most + 1)};
  int* row_start = workspace.take<int>(static_cast<std::size_t>(height) + 1);
  components.parent[0] = 0;
  int count = 0;
  for (int y = 0; y < height; ++y) {
    row_start[y] = count;
    int above = y > 0 ? row_start[y - 1] : 0;
    for (int x = find_bit(bits.row(y), 0, width, true); x < width;) {
      const int end = find_bit(bits.row(y), x, width, false), label = count + 1;
      components.parent[label] = label;
      if (y == 0 || y == height - 1 || x == 0 || end == width) components.join(label, 0);
      while (above < row_start[y] && runs[above].end <= x) ++above;
      for (int a = above; a < row_start[y] && runs[a].begin < end; ++a) components.join(label, a + 1);
      runs[count++] = {x, end};
      x = find_bit(bits.row(y), end, width, true);
    }
  }
  row_start[height] = count;
  for (int y = 0; y < height; ++y) {
    std::uint64_t* row = bits.row(y);
    std::fill_n(row, bits.width, ~std::uint64_t{0});
    for (int i = row_start[y]; i < row_start[y + 1]; ++i)
      if (components.find(i + 1) == 0) clear_bits(row, runs[i].begin, runs[i].end);
  }
}

// Square erosion; bits past the row's end are set and rows past the frame are skipped, so the frame does not erode.
void erode(Workspace& workspace, View<std::uint64_t> bits, int radius) {
  if (radius == 0) return;
  Workspace::Frame frame(workspace);
  const int words = bits.width;
  const auto across = workspace.take_plane<std::uint64_t>(words, bits.height);
  for (int y = 0; y < bits.height; ++y) {
    const std::uint64_t* in = bits.row(y);
    for (int i = 0; i < words; ++i) {
      const std::uint64_t left = i > 0 ? in[i - 1] : ~std::uint64_t{0};
      const std::uint64_t right = i + 1 < words ? in[i + 1] : ~std::uint64_t{0};
      std::uint64_t w = in[i];
      for (int k = 1; k <= radius; ++k) w &= (in[i] >> k | right << (64 - k)) & (in[i] << k | left >> (64 - k));
      across.row(y)[i] = w;
    }
  }
  for (int y = 0; y < bits.height; ++y) {
    const int from = std::max(y - radius, 0), to = std::min(y + radius, bits.height - 1);
    std::memcpy(bits.row(y), across.row(from), static_cast<std::size_t>(words) * sizeof(std::uint64_t));
    for (int k = from + 1; k <= to; ++k)
      for (int i = 0; i < words; ++i) bits.row(y)[i] &= across.row(k)[i];
  }
}

// The element of that percentage of the sorted values. Reorders them.
float order_statistic(float* values, int n, int percent) {
  float* at = values + rank_of(n, percent);
  std::nth_element(values, at, values + n);
  return *at;
}

struct Surround {
  float corner, middle;
};

Surround surround(Workspace& workspace, View<const float> intensity) {
  Workspace::Frame frame(workspace);
  const int w = intensity.width, h = intensity.height, side = std::max(1, std::min(w, h) / kCornerPart);
  float* values = workspace.take<float>(
      static_cast<std::size_t>(std::max(4 * side * side, (w / kMiddleStep + 1) * (h / kMiddleStep + 1))));
  int n = 0;
  for (const int y0 : {0, h - side})
    for (const int x0 : {0, w - side})
      for (int y = y0; y < y0 + side; ++y, n += side) std::copy_n(intensity.row(y) + x0, side, values + n);
  const float corner = order_statistic(values, n, kCornerPercent);
  n = 0;
  for (int y = h / kMiddlePart; y < h - h / kMiddlePart; y += kMiddleStep)
    for (int x = w / kMiddlePart; x < w - w / kMiddlePart; x += kMiddleStep) values[n++] = intensity.row(y)[x];
  return {corner, order_statistic(values, n, kMiddlePercent)};
}

}  // namespace

float percentile_95(Workspace& workspace, View<const float> intensity) {
  Workspace::Frame frame(workspace);
  const int width = intensity.width, height = intensity.height;
  const std::int64_t total = static_cast<std::int64_t>(width) * height, rank = rank_of(total, kBrightPercent);
  constexpr std::uint32_t kLargest = 0x3f800000;  // 1.0f

  // A sample brackets the value within a few per cent of the pixels; should it not, the bracket is everything.
  auto* picked = workspace.take<std::uint32_t>(static_cast<std::size_t>(total) + kRowPad);
  int sampled = 0;
  for (int y = 0; y < height; ++y)
    for (int x = y * 5 % kSampleStep; x < width; x += kSampleStep)
      picked[sampled++] = std::bit_cast<std::uint32_t>(intensity.row(y)[x]);
  std::uint32_t low = 0, high = kLargest;
  if (sampled > 64) {
    low = select(picked, sampled, sampled * std::int64_t{93} / 100, 0, kLargest);
    high = select(picked, sampled, sampled * std::int64_t{97} / 100, low, kLargest);
  }
  for (;;) {
    Between between;
    for (int y = 0; y < height; ++y) pick_between(intensity.row(y), width, low, high, picked, &between);
    if (rank >= between.below && rank < std::int64_t{between.below} + between.found)
      return std::bit_cast<float>(select(picked, between.found, rank - between.below, low, high));
    low = 0, high = kLargest;
  }
}

void field_of_view(Workspace& workspace, const ImageOptions& options, Plane& plane) {
  const int width = plane.intensity.width, height = plane.intensity.height;
  const float bright = percentile_95(workspace, plane.intensity);
  const auto [corner, middle] = surround(workspace, plane.intensity);
  const float threshold = dark_threshold(options.dark_fraction, bright, corner, middle);
  for (int y = 0; y < height; ++y) dark_bits(plane.intensity.row(y), width, threshold, plane.bits.row(y));
  keep_inside(workspace, plane.bits, width);
  erode(workspace, plane.bits, options.erode_px);
  for (int y = 0; y < height; ++y) {
    if (64 * plane.bits.width > width) clear_bits(plane.bits.row(y), width, 64 * plane.bits.width);
    bits_to_bytes(plane.bits.row(y), width, plane.mask.row(y));
  }
}

}  // namespace fastretina::image_steps
