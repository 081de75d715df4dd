// upsample + nms without the big map: a block makes a tile of pixels in shared memory, and a thread looks for the key
// points of one cell. Three launches: find, by bucket, by rank.
#include "core/error.h"
#include "detect/detect.h"
#include "nms/nms_device.h"
#include "nms/nms_math.h"
#include "nms/nms_scan.h"
#include "upsample/upsample.h"
#include "upsample/upsample_device.h"

namespace fastretina::cuda {
namespace {

constexpr int kTile = 16;     // cells a side that a block searches, a thread each
constexpr int kMostHalo = 3;  // cells: radii up to 12 px fit into shared memory
constexpr float kNothing = -HUGE_VALF;

template <int kHalo>
struct Tile {
  static constexpr int kCells = kTile + 2 * kHalo, kPixels = kStride * kCells, kRow = kPixels + 4;
  float pixel[kPixels][kRow];     // outside the map: nothing
  float highest[kCells][kCells];  // of a cell
};

template <int kHalo>
__device__ void fill_tile(const View<const float>& difference, int i0, int j0, Tile<kHalo>& tile) {
  constexpr int kCells = Tile<kHalo>::kCells;
  for (int c = static_cast<int>(threadIdx.x); c < kCells * kCells; c += kTile * kTile) {
    const int r = c / kCells, q = c % kCells, i = i0 + r, j = j0 + q;
    const bool inside = i >= 0 && j >= 0 && i < difference.height && j < difference.width;
    float cell[4][4];
    if (inside) expand_cell(difference, i, j, cell);
    float highest = kNothing;
    for (int y = 0; y < kStride; ++y)
      for (int x = 0; x < kStride; ++x) {
        const float v = inside ? cell[y][x] : kNothing;
        tile.pixel[kStride * r + y][kStride * q + x] = v;
        highest = v > highest ? v : highest;
      }
    tile.highest[r][q] = highest;
  }
}

// Is pixel (x, y) of the tile first in its window? Cells whose highest pixel is lower have no say.
template <int kHalo>
__device__ bool first_in_window(const Tile<kHalo>& tile, int radius, int x, int y) {
  const float score = tile.pixel[y][x];
  for (int r = (y - radius) / kStride; r <= (y + radius) / kStride; ++r)
    for (int q = (x - radius) / kStride; q <= (x + radius) / kStride; ++q) {
      if (tile.highest[r][q] < score) continue;
      const int v1 = min(kStride * r + kStride - 1, y + radius), u1 = min(kStride * q + kStride - 1, x + radius);
      for (int v = max(kStride * r, y - radius); v <= v1; ++v)
        for (int u = max(kStride * q, x - radius); u <= u1; ++u)
          if (suppresses(tile.pixel[v][u], v < y || (v == y && u < x), score)) return false;
    }
  return true;
}

template <int kHalo>
__global__ void __launch_bounds__(kTile* kTile) find_kernel(View<const float> difference, View<const std::uint8_t> mask,
                                                            int radius, float threshold, Candidates list) {
  __shared__ Tile<kHalo> tile;
  const int i0 = static_cast<int>(blockIdx.y) * kTile - kHalo, j0 = static_cast<int>(blockIdx.x) * kTile - kHalo;
  fill_tile(difference, i0, j0, tile);
  __syncthreads();
  const int r = static_cast<int>(threadIdx.x) / kTile + kHalo, q = static_cast<int>(threadIdx.x) % kTile + kHalo;
  if (!(tile.highest[r][q] > threshold)) return;
  const int width = kStride * difference.width;
  for (int y = kStride * r; y < kStride * (r + 1); ++y)
    for (int x = kStride * q; x < kStride * (q + 1); ++x) {
      const float score = tile.pixel[y][x];
      if (!(score > threshold)) continue;
      const int px = kStride * j0 + x, py = kStride * i0 + y;
      if (!mask.empty() && !mask.row(py)[px]) continue;
      if (first_in_window(tile, radius, x, y))
        append(list, score,
               static_cast<std::uint32_t>(py) * static_cast<std::uint32_t>(width) + static_cast<std::uint32_t>(px));
    }
}

}  // namespace

void detect(const Context& context, Workspace& workspace, View<const float> difference, View<const std::uint8_t> mask,
            const NmsOptions& options, const Keypoints& out) {
  require(difference.width < (1 << 28) && difference.height < (1 << 28), "difference", "a side of 2^28 or more",
          "fewer than 2^31 output pixels");
  const int width = kStride * difference.width, height = kStride * difference.height;
  cpu::check_options(options, width, height, mask, out);
  if (difference.empty()) return fill(context, out.count, 0, sizeof(int));
  const Workspace::Frame frame(workspace);
  const Candidates list = take_candidates(context, workspace, cpu::max_found(height, width, options.radius));
  const int halo = (options.radius + kStride - 1) / kStride;
  if (halo > kMostHalo) {  // a window larger than shared memory: by way of the big map
    const View<float> confidence = workspace.take_plane<float>(width, height);
    upsample(context, workspace, difference, confidence);
    find_keypoints(context, confidence, mask, options, list);
  } else {
    const auto kernel = halo <= 1 ? find_kernel<1> : halo == 2 ? find_kernel<2> : find_kernel<3>;
    launch(context, {blocks_for(difference.width, kTile), blocks_for(difference.height, kTile)}, kTile * kTile, kernel,
           difference, mask, options.radius, options.threshold, list);
  }
  write_keypoints(context, workspace, list, width, options.max_keypoints, out);
}

}  // namespace fastretina::cuda
