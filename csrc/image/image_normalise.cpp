// Steps 4 and 5 of the room `image`: local statistics over the field of view, and the plane they give.
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

constexpr int kCellRowsPerChunk = 8;
constexpr int kMargin = 16;  // cells left and right of a row of cells; the box needs 3

// A plane of cells with a frame of zeros.
struct Cells {
  View<float> all;
  int width = 0, height = 0;
  float* row(int y) const { return all.row(y + kBoxRadius) + kMargin; }
};

Cells take_cells(Workspace& workspace, int width, int height) {
  Cells cells;
  const int columns = (width + 2 * kMargin + 15) / 16 * 16;
  cells.all = workspace.take_plane<float>(columns, height + 2 * kBoxRadius);
  cells.width = width;
  cells.height = height;
  std::fill_n(cells.all.data, static_cast<std::size_t>(columns) * static_cast<std::size_t>(cells.all.height), 0.f);
  return cells;
}

// Any value near the intensities will do: subtracting it before squaring keeps the variance's digits.
float mean_intensity(const Plane& plane) {
  float lanes[kLanes] = {};
  double total = 0;
  std::int64_t count = 0;
  for (int y = 0; y < plane.intensity.height; ++y) {
    std::fill_n(lanes, kLanes, 0.f);
    masked_sum(plane.intensity.row(y), plane.bits.row(y), plane.intensity.width, lanes);
    for (const float lane : lanes) total += static_cast<double>(lane);
    for (int i = 0; i < plane.bits.width; ++i) count += std::popcount(plane.bits.row(y)[i]);
  }
  return count > 0 ? static_cast<float>(total / static_cast<double>(count)) : 0.f;
}

void sum_cells(const Context& context, const Plane& plane, float shift, const Cells (&sums)[3]) {
  context.parallel_for(sums[0].height, kCellRowsPerChunk, [&](int begin, int end, int) {
    for (int c = begin; c < end; ++c) {
      CellRows in{};
      in.shift = shift;
      for (int r = 0; r < kCell && kCell * c + r < plane.intensity.height; ++r) {
        in.rows[r] = plane.intensity.row(kCell * c + r);
        in.masks[r] = plane.mask.row(kCell * c + r);
        in.bits[r] = plane.bits.row(kCell * c + r);
      }
      cell_sums(in, sums[0].width, sums[0].row(c), sums[1].row(c), sums[2].row(c));
    }
  });
}

// One 7 x 7 box sum, in place; zero outside.
void box(const Cells& cells, const Cells& across) {
  for (int y = 0; y < cells.height; ++y) box_row(cells.row(y), across.row(y), cells.width);
  for (int y = 0; y < cells.height; ++y) {
    const float* rows[2 * kBoxRadius + 1];
    for (int k = -kBoxRadius; k <= kBoxRadius; ++k) rows[k + kBoxRadius] = across.row(y + k);
    box_column(rows, cells.row(y), cells.width);
  }
}

struct Statistics {
  Cells mean, sd;
  float global_sd = 0;
};

Statistics local_statistics(const Context& context, Workspace& workspace, const Plane& plane, int cells_x,
                            int cells_y) {
  Statistics result;
  result.mean = take_cells(workspace, cells_x, cells_y);
  result.sd = take_cells(workspace, cells_x, cells_y);
  Workspace::Frame frame(workspace);
  const Cells across = take_cells(workspace, cells_x, cells_y), own_s0 = take_cells(workspace, cells_x, cells_y);
  Cells sums[3];
  for (Cells& s : sums) s = take_cells(workspace, cells_x, cells_y);

  const float shift = mean_intensity(plane);
  sum_cells(context, plane, shift, sums);
  for (int y = 0; y < cells_y; ++y)
    std::memcpy(own_s0.row(y), sums[0].row(y), static_cast<std::size_t>(cells_x) * sizeof(float));
  for (const Cells& s : sums)
    for (int pass = 0; pass < 2; ++pass) box(s, across);

  double total = 0;
  std::int64_t seen = 0;
  for (int y = 0; y < cells_y; ++y) {
    float lanes[kLanes] = {};
    float *mean = result.mean.row(y), *sd = result.sd.row(y);
    cell_statistics(sums[0].row(y), sums[1].row(y), sums[2].row(y), own_s0.row(y), cells_x, shift, mean, sd, lanes);
    for (const float lane : lanes) total += static_cast<double>(lane);
    for (int x = 0; x < cells_x; ++x) seen += own_s0.row(y)[x] > 0;
    // The clamped neighbours of the bilinear interpolation.
    mean[-1] = mean[0], mean[cells_x] = mean[cells_x - 1];
    sd[-1] = sd[0], sd[cells_x] = sd[cells_x - 1];
  }
  result.global_sd = seen > 0 ? static_cast<float>(total / static_cast<double>(seen)) : 0.f;
  return result;
}

// A row of cells at pixels: mean and deviation.
struct PixelRow {
  float *mean, *sd;
};

}  // namespace

float normalise(const Context& context, Workspace& workspace, const Plane& plane, const ImageOptions& options,
                const NetworkImage& output) {
  Workspace::Frame frame(workspace);
  const int width = plane.intensity.width, height = plane.intensity.height;
  const int cells_x = (width + kCell - 1) / kCell, cells_y = (height + kCell - 1) / kCell;
  const Statistics statistics = local_statistics(context, workspace, plane, cells_x, cells_y);
  const float offset = kGlobalPart * statistics.global_sd + kFloor;

  const std::size_t row = static_cast<std::size_t>(cells_x) * kCell + kRowPad;
  auto* slots = workspace.take<PixelRow>(2 * static_cast<std::size_t>(context.threads()));
  for (int s = 0; s < 2 * context.threads(); ++s) slots[s] = {workspace.take<float>(row), workspace.take<float>(row)};

  // Interval j lies between the centres of cell rows j - 1 and j: pixel rows 4 j - 2 ... 4 j + 1.
  context.parallel_for(cells_y + 1, kCellRowsPerChunk, [&](int begin, int end, int slot) {
    PixelRow above = slots[2 * slot], below = slots[2 * slot + 1];
    const auto spread = [&](int cell_row, const PixelRow& to) {
      const int c = std::clamp(cell_row, 0, cells_y - 1);
      cells_to_pixels(statistics.mean.row(c), cells_x, to.mean);
      cells_to_pixels(statistics.sd.row(c), cells_x, to.sd);
    };
    spread(begin - 1, above);
    for (int j = begin; j < end; ++j) {
      spread(j, below);
      for (int r = 0; r < kCell; ++r) {
        const int y = kCell * j - kCell / 2 + r;
        if (y < 0 || y >= height) continue;
        const NormaliseRow s{above.mean, below.mean,  above.sd, below.sd, 0.125f + 0.25f * static_cast<float>(r),
                             offset,     options.clip};
        normalise_row(plane.intensity.row(y), plane.mask.row(y), s, width, output.plane.row(y));
      }
      std::swap(above, below);
    }
  });
  return statistics.global_sd;
}

}  // namespace fastretina::image_steps
