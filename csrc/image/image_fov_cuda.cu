// Step 3 of the room `image` on the device: exact order statistics by histograms of the bit patterns, dark pixels that
// hang together with the frame by a union-find of all pixels, erosion along rows and then along columns.
#include <algorithm>

#include "core/device.h"
#include "image/image_device.h"
#include "image/image_math.h"

namespace fastretina::cuda {
namespace {

using namespace image_math;

constexpr int kThreads = 256;
const dim3 kBlock(32, 8);

// --- order statistics -------------------------------------------------------------------------------------------
// Intensities are in [+0, 1]: their bit patterns have the values' order, and thirty bits. A pass settles ten of them.
constexpr int kPasses = 3, kBits = 10, kBins = 1 << kBits, kSets = 3;

// Which pixels: all, the corners, the middle.
struct Set {
  View<const float> plane;
  int which = 0, percent = 0;

  __host__ __device__ int side() const { return max(1, min(plane.width, plane.height) / kCornerPart); }
  __host__ __device__ int middle(int length) const {
    return (length - 2 * (length / kMiddlePart) + kMiddleStep - 1) / kMiddleStep;
  }
  __host__ __device__ int count() const {
    if (which == 1) return 4 * side() * side();
    return which == 0 ? plane.width * plane.height : middle(plane.width) * middle(plane.height);
  }
  __device__ float value(int i) const {
    if (which == 0) return plane.row(i / plane.width)[i % plane.width];
    if (which == 1) {
      const int s = side(), corner = i / (s * s), x = i % s, y = i / s % s;
      return plane.row(corner < 2 ? y : plane.height - s + y)[corner % 2 == 0 ? x : plane.width - s + x];
    }
    const int columns = middle(plane.width);
    return plane.row(plane.height / kMiddlePart +
                     kMiddleStep * (i / columns))[plane.width / kMiddlePart + kMiddleStep * (i % columns)];
  }
};

struct Sets {
  Set set[kSets];
};

// Follows the rank through a pass: the bin that holds it, and its rank there. By a whole block.
__device__ int follow(const int* histogram, int& rank) {
  constexpr int kPerThread = kBins / kThreads;
  __shared__ int found[2];
  const int t = static_cast<int>(threadIdx.x);
  int own[kPerThread], total = 0;
  for (int b = 0; b < kPerThread; ++b) total += own[b] = histogram[t * kPerThread + b];
  int below = block_prefix<kThreads>(total) - total;
  for (int b = 0; b < kPerThread; ++b) {
    if (rank >= below && rank < below + own[b]) found[0] = t * kPerThread + b, found[1] = rank - below;
    below += own[b];
  }
  __syncthreads();
  rank = found[1];
  return found[0];
}

// The bits that the passes before settled.
__device__ unsigned settled(const int* histograms, const Set& set, int passes) {
  auto rank = static_cast<int>(rank_of(set.count(), set.percent));
  unsigned bits = 0;
  for (int pass = 0; pass < passes; ++pass)
    bits = bits << kBits | static_cast<unsigned>(follow(histograms + pass * kBins, rank));
  return bits;
}

__global__ void __launch_bounds__(kThreads) count_kernel(Sets sets, int* histograms, int pass) {
  __shared__ int bins[kBins];
  const Set& set = sets.set[blockIdx.y];
  int* own = histograms + static_cast<int>(blockIdx.y) * kPasses * kBins;
  const unsigned prefix = settled(own, set, pass);
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) bins[b] = 0;
  __syncthreads();
  const int shift = (kPasses - 1 - pass) * kBits, n = set.count();
  for (int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x) * kThreads) {
    const unsigned bits = __float_as_uint(set.value(i)) >> shift;
    if (bits >> kBits == prefix) atomicAdd(&bins[bits & (kBins - 1)], 1);
  }
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads)
    if (bins[b] > 0) atomicAdd(&own[pass * kBins + b], bins[b]);
}

__global__ void __launch_bounds__(kThreads)
    threshold_kernel(Sets sets, const int* histograms, float dark_fraction, float* threshold) {
  float value[kSets];
  for (int k = 0; k < kSets; ++k)
    value[k] = __uint_as_float(settled(histograms + k * kPasses * kBins, sets.set[k], kPasses));
  if (threadIdx.x == 0) *threshold = dark_threshold(dark_fraction, value[0], value[1], value[2]);
}

// --- components -------------------------------------------------------------------------------------------------
// parent[1 + pixel]; node 0 is the outside, and -1 stands for a pixel that is not dark. The smallest node is the root.
__device__ int find(const int* parent, int i) {
  while (parent[i] != i) i = parent[i];
  return i;
}

// Links two roots; another thread may do so meanwhile, hence the loop.
__device__ void unite(int* parent, int a, int b) {
  for (;;) {
    a = find(parent, a), b = find(parent, b);
    if (a == b) return;
    const int high = a > b ? a : b, low = a > b ? b : a;
    const int old = atomicMin(&parent[high], low);
    if (old == high) return;
    a = old, b = low;
  }
}

// A warp covers 32 pixels of a row: dark runs within it begin as one.
__global__ void runs_kernel(View<const float> plane, const float* threshold, int* parent) {
  const int x = pixel_x(), y = pixel_y(), lane = static_cast<int>(threadIdx.x);
  const bool inside = x < plane.width && y < plane.height;
  const bool dark = inside && plane.row(y)[x] < *threshold;
  const unsigned runs = __ballot_sync(kAllLanes, dark), gaps = ~runs & ((1u << lane) - 1);
  if (!inside) return;
  const int begin = gaps ? 32 - __clz(static_cast<int>(gaps)) : 0, row = 1 + y * plane.width;
  parent[row + x] = dark ? row + x - lane + begin : -1;
  if (x == 0 && y == 0) parent[0] = 0;
}

__global__ void unite_kernel(int* parent, int width, int height) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= width || y >= height) return;
  const int own = 1 + y * width + x;
  if (parent[own] < 0) return;
  if (x == 0 || y == 0 || x == width - 1 || y == height - 1) unite(parent, own, 0);
  const bool left = x > 0 && parent[own - 1] >= 0;
  if (left && x % 32 == 0) unite(parent, own, own - 1);
  if (y == 0 || parent[own - width] < 0) return;
  if (!left || parent[own - width - 1] < 0) unite(parent, own, own - width);  // else the left pixel does it
}

__global__ void inside_kernel(const int* parent, View<std::uint8_t> inside) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= inside.width || y >= inside.height) return;
  const int own = 1 + y * inside.width + x;
  inside.row(y)[x] = parent[own] < 0 || find(parent, own) != 0;
}

// One direction of the erosion; the frame itself does not erode.
__global__ void erode_kernel(View<const std::uint8_t> from, View<std::uint8_t> to, int radius, bool down) {
  const int x = pixel_x(), y = pixel_y();
  if (x >= from.width || y >= from.height) return;
  to.row(y)[x] = all_set(from, x, y, !down, down, radius, true);
}

}  // namespace

void field_of_view(const Context& context, Workspace& workspace, View<const float> intensity,
                   const ImageOptions& options, View<std::uint8_t> mask) {
  const Workspace::Frame frame(workspace);
  const int width = intensity.width, height = intensity.height;
  const dim3 blocks(blocks_for(width, 32), blocks_for(height, 8));
  int* histograms = workspace.take<int>(kSets * kPasses * kBins);
  float* threshold = workspace.take<float>(1);
  int* parent = workspace.take<int>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) + 1);
  const View<std::uint8_t> inside = workspace.take_plane<std::uint8_t>(width, height);
  const View<std::uint8_t> across = workspace.take_plane<std::uint8_t>(width, height);
  const View<std::uint8_t> content(mask.data, width, height, mask.stride);

  const Sets sets{{{intensity, 0, kBrightPercent}, {intensity, 1, kCornerPercent}, {intensity, 2, kMiddlePercent}}};
  fill(context, histograms, 0, kSets * kPasses * kBins * sizeof(int));
  const unsigned counters = std::min(64u, blocks_for(std::int64_t{width} * height, 4 * kThreads));
  for (int pass = 0; pass < kPasses; ++pass)
    launch(context, {counters, kSets}, kThreads, count_kernel, sets, histograms, pass);
  launch(context, 1, kThreads, threshold_kernel, sets, histograms, options.dark_fraction, threshold);
  launch(context, blocks, kBlock, runs_kernel, intensity, threshold, parent);
  launch(context, blocks, kBlock, unite_kernel, parent, width, height);
  launch(context, blocks, kBlock, inside_kernel, parent, inside);
  launch(context, blocks, kBlock, erode_kernel, inside, across, options.erode_px, false);
  launch(context, blocks, kBlock, erode_kernel, across, content, options.erode_px, true);
}

}  // namespace fastretina::cuda
