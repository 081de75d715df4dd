// Ridge maps: Hessian -> strength and direction -> saturation -> three blurred levels -> points.
#include <algorithm>
#include <array>
#include <string>

#include "core/error.h"
#include "refine/clones.h"
#include "refine/refine.h"
#include "refine/refine_math.h"
#include "refine/ridges.h"

namespace fastretina {
namespace {

using namespace refine_math;

constexpr int kRowGrain = 16;  // even: a chunk holds whole row pairs
constexpr int kPad = 64;       // zeros on either side of a row buffer, at least kMaxRadius

struct Planes {
  View<float> at[3];  // strength, c2, s2
};

Planes take_planes(Workspace& workspace, int width, int height) {
  Planes planes;
  for (auto& plane : planes.at) plane = workspace.take_plane<float>(width, height);
  return planes;
}

float* take_row(Workspace& workspace, int width) {
  float* row = workspace.take<float>(static_cast<std::size_t>(width + 2 * kPad));
  std::fill_n(row, width + 2 * kPad, 0.0f);
  return row + kPad;
}

// ---- Hessian ----

struct HessianRow {
  const float* rows[2 * kMaxRadius + 1];  // plane rows y - radius ... y + radius
  const float* inside;                    // 1 or 0 a pixel
  float *vg, *v1, *v2;                    // padded row buffers: the three vertical filters
  float *xx, *xy, *yy;
  float *strength, *c2, *s2;  // results
};

FR_INLINE void vertical_taps(const float* __restrict above, const float* __restrict below, float wg, float w1, float w2,
                             float* __restrict vg, float* __restrict v1, float* __restrict v2, int width) {
  for (int x = 0; x < width; ++x) {
    const float even = above[x] + below[x], odd = below[x] - above[x];
    vg[x] = std::fmaf(wg, even, vg[x]);
    v1[x] = std::fmaf(w1, odd, v1[x]);
    v2[x] = std::fmaf(w2, even, v2[x]);
  }
}

FR_INLINE void horizontal_taps(const float* __restrict vg, const float* __restrict v1, const float* __restrict v2,
                               int i, float wg, float w1, float w2, float* __restrict xx, float* __restrict xy,
                               float* __restrict yy, int width) {
  for (int x = 0; x < width; ++x) {
    xx[x] = std::fmaf(w2, vg[x - i] + vg[x + i], xx[x]);
    xy[x] = std::fmaf(w1, v1[x + i] - v1[x - i], xy[x]);
    yy[x] = std::fmaf(wg, v2[x - i] + v2[x + i], yy[x]);
  }
}

FR_INLINE void first_taps(const float* __restrict a, float wa, float* __restrict out, int width) {
  for (int x = 0; x < width; ++x) out[x] = wa * a[x];
}

FR_INLINE void ridge_values(const float* __restrict xx, const float* __restrict xy, const float* __restrict yy,
                            const float* __restrict inside, float* __restrict strength, float* __restrict c2,
                            float* __restrict s2, int width) {
  for (int x = 0; x < width; ++x) {
    const Ridge r = ridge(xx[x], xy[x], yy[x], inside[x]);
    strength[x] = r.strength;
    c2[x] = r.c2;
    s2[x] = r.s2;
  }
}

FR_INLINE void hessian_row_body(const HessianTaps& taps, const HessianRow& row, int width) {
  const int n = taps.radius;
  first_taps(row.rows[n], taps.g[0], row.vg, width);
  first_taps(row.rows[n], 0, row.v1, width);
  first_taps(row.rows[n], taps.d2[0], row.v2, width);
  for (int i = 1; i <= n; ++i)
    vertical_taps(row.rows[n - i], row.rows[n + i], taps.g[i], taps.d1[i], taps.d2[i], row.vg, row.v1, row.v2, width);
  first_taps(row.vg, taps.d2[0], row.xx, width);
  first_taps(row.vg, 0, row.xy, width);
  first_taps(row.v2, taps.g[0], row.yy, width);
  for (int i = 1; i <= n; ++i)
    horizontal_taps(row.vg, row.v1, row.v2, i, taps.g[i], taps.d1[i], taps.d2[i], row.xx, row.xy, row.yy, width);
  ridge_values(row.xx, row.xy, row.yy, row.inside, row.strength, row.c2, row.s2, width);
}
FR_CLONES(hessian_row, (const HessianTaps& taps, const HessianRow& row, int width), (taps, row, width))

// ---- field of view ----

FR_INLINE void min_row(const std::uint8_t* __restrict a, std::uint8_t* __restrict out, int width) {
  for (int x = 0; x < width; ++x) out[x] = a[x] < out[x] ? a[x] : out[x];
}
// Minimum over (2 rim + 1)^2; what lies beyond the frame is outside. `line` is padded with zeros.
FR_INLINE void erode_row_body(View<const std::uint8_t> mask, int y, int rim, std::uint8_t* line, std::uint8_t* out,
                              float* inside) {
  const int width = mask.width;
  std::fill_n(line, width, y < rim || y + rim >= mask.height ? std::uint8_t{0} : std::uint8_t{255});
  for (int i = std::max(0, y - rim); i <= std::min(mask.height - 1, y + rim); ++i) min_row(mask.row(i), line, width);
  std::copy_n(line, width, out);
  for (int i = 1; i <= rim; ++i) {
    min_row(line - i, out, width);
    min_row(line + i, out, width);
  }
  for (int x = 0; x < width; ++x) {
    out[x] = out[x] != 0 ? 255 : 0;
    inside[x] = out[x] != 0 ? 1.0f : 0.0f;
  }
}
FR_CLONES(erode_row,
          (View<const std::uint8_t> mask, int y, int rim, std::uint8_t* line, std::uint8_t* out, float* inside),
          (mask, y, rim, line, out, inside))

// Sum with a fixed association: 16 interleaved partial sums, then those in order.
FR_INLINE void sum_row_body(const float* values, int n, double& sum) {
  float lanes[16] = {};
  int x = 0;
  for (; x + 16 <= n; x += 16)
    for (int l = 0; l < 16; ++l) lanes[l] += values[x + l];
  for (; x < n; ++x) lanes[x % 16] += values[x];
  for (const float lane : lanes) sum += static_cast<double>(lane);
}
FR_CLONES(sum_row, (const float* values, int n, double& sum), (values, n, sum))

// ---- levels ----

FR_INLINE void saturate_row_body(float* __restrict strength, float* __restrict c2, float* __restrict s2, float knee,
                                 int width) {
  for (int x = 0; x < width; ++x) {
    const float gain = saturation_gain(strength[x], knee);
    strength[x] *= gain;
    c2[x] *= gain;
    s2[x] *= gain;
  }
}
FR_CLONES(saturate_row, (float* strength, float* c2, float* s2, float knee, int width), (strength, c2, s2, knee, width))

// Mean of 2 x 2; what is missing at an odd edge counts as 0. `zeros` stands in for a missing row.
FR_INLINE void halve_row_body(const float* __restrict a, const float* __restrict b, float* __restrict out, int width) {
  for (int x = 0; x < width / 2; ++x) out[x] = 0.25f * ((a[2 * x] + a[2 * x + 1]) + (b[2 * x] + b[2 * x + 1]));
  if (width % 2 != 0) out[width / 2] = 0.25f * (a[width - 1] + b[width - 1]);
}
FR_CLONES(halve_row, (const float* a, const float* b, float* out, int width), (a, b, out, width))

FR_INLINE void blur_vertical(const float* const* rows, float* __restrict out, int width) {
  const float* __restrict a = rows[0], * __restrict b = rows[1], * __restrict c = rows[2], * __restrict d = rows[3], * __restrict e = rows[4];
  for (int x = 0; x < width; ++x)
    out[x] = std::fmaf(kBinomial[2], a[x] + e[x], std::fmaf(kBinomial[1], b[x] + d[x], kBinomial[0] * c[x]));
}
FR_INLINE float blur_at(const float* p) {
  return std::fmaf(kBinomial[2], p[-2] + p[2], std::fmaf(kBinomial[1], p[-1] + p[1], kBinomial[0] * p[0]));
}
// Binomial blur of row y of three planes (5 source rows each), packed.
FR_INLINE void pack_row_body(const std::array<const float*, 15>& rows, const std::array<float*, 3>& lines,
                             const std::uint8_t* __restrict inside, RidgePixel* __restrict out, int width) {
  for (int k = 0; k < 3; ++k) blur_vertical(rows.data() + 5 * k, lines[static_cast<std::size_t>(k)], width);
  const float* __restrict s = lines[0], * __restrict c = lines[1], * __restrict d = lines[2];
  if (inside != nullptr) {
    for (int x = 0; x < width; ++x) out[x] = pack(blur_at(s + x), blur_at(c + x), blur_at(d + x), inside[x]);
  } else {
    for (int x = 0; x < width; ++x) out[x] = pack(blur_at(s + x), blur_at(c + x), blur_at(d + x), 0);
  }
}
FR_CLONES(pack_row,
          (const std::array<const float*, 15>& rows, const std::array<float*, 3>& lines, const std::uint8_t* inside,
           RidgePixel* out, int width),
          (rows, lines, inside, out, width))

void pack_level(const Context& context, Workspace& workspace, const Planes& from, const std::uint8_t* inside,
                View<RidgePixel> to) {
  const Workspace::Frame frame(workspace);
  const int width = to.width, height = to.height;
  const float* zeros = take_row(workspace, width);
  float* lines = workspace.take<float>(static_cast<std::size_t>(3 * context.threads() * (width + 2 * kPad)));
  std::fill_n(lines, 3 * context.threads() * (width + 2 * kPad), 0.0f);
  context.parallel_for(height, kRowGrain, [&](int begin, int end, int slot) {
    std::array<float*, 3> line;
    for (int k = 0; k < 3; ++k) line[static_cast<std::size_t>(k)] = lines + (3 * slot + k) * (width + 2 * kPad) + kPad;
    std::array<const float*, 15> rows;
    for (int y = begin; y < end; ++y) {
      for (int k = 0; k < 3; ++k)
        for (int i = 0; i < 5; ++i) {
          const int at = y + i - 2;
          rows[static_cast<std::size_t>(5 * k + i)] = at < 0 || at >= height ? zeros : from.at[k].row(at);
        }
      pack_row(rows, line, inside == nullptr ? nullptr : inside + std::ptrdiff_t{y} * width, to.row(y), width);
    }
  });
}

void halve(const Context& context, Workspace& workspace, const Planes& from, const Planes& to) {
  const Workspace::Frame frame(workspace);
  const int width = from.at[0].width, height = from.at[0].height;
  const float* zeros = take_row(workspace, width);
  context.parallel_for(to.at[0].height, kRowGrain, [&](int begin, int end, int) {
    for (int y = begin; y < end; ++y)
      for (int k = 0; k < 3; ++k)
        halve_row(from.at[k].row(2 * y), 2 * y + 1 < height ? from.at[k].row(2 * y + 1) : zeros, to.at[k].row(y),
                  width);
  });
}

// ---- points ----

// A lattice over the field of view. Ridge tops alone would be fewer points, but say nothing of where no vessel is: they
// leave a bias that a lattice has not, and jittering the lattice makes it a worse quadrature.
void choose_points(View<const RidgePixel> level, double area, const RidgeMap& out) {
  int step = kPointStepPx;
  while (static_cast<double>(step) * step * out.capacity < area) ++step;
  int count = 0;
  for (int y = step / 2; y < level.height; y += step)
    for (int x = step / 2; x < level.width; x += step) {
      if (level.row(y)[x] >> 24 == 0 || count == out.capacity) continue;
      out.points[2 * count] = static_cast<float>(x);
      out.points[2 * count + 1] = static_cast<float>(y);
      ++count;
    }
  *out.count = count;
}

}  // namespace

void check_ridges(View<const float> plane, View<const std::uint8_t> mask, const RidgeOptions& options, const RidgeMap& out) {
  const std::string size = std::to_string(plane.width) + " x " + std::to_string(plane.height);
  require(mask.width == plane.width && mask.height == plane.height, "mask",
          std::to_string(mask.width) + " x " + std::to_string(mask.height), "the plane's size");
  require(plane.width < 32768 && plane.height < 32768, "plane", size, "sides below 32768");
  require(options.sigma_px >= 0.5f && options.sigma_px <= 10, "sigma_px", std::to_string(options.sigma_px),
          "a value from 0.5 to 10");
  require(options.saturation > 0 && options.saturation <= 1e6f, "saturation", std::to_string(options.saturation),
          "a value in (0, 1e6]");
  require(options.rim_px >= 0 && options.rim_px < kPad, "rim_px", std::to_string(options.rim_px),
          "a value from 0 to 63");
  require(out.capacity >= 0, "max_points", std::to_string(out.capacity), "0 or more");
  for (int k = 0; k < kRidgeLevels; ++k) {
    const Size level = ridge_level_size({plane.width, plane.height}, k);
    require(out.level[k].width == level.width && out.level[k].height == level.height, "level", std::to_string(k),
            "ridge_level_size()");
  }
}

Size ridge_level_size(Size plane, int level) {
  Size size = plane;
  for (int scale = 1; scale < kRidgeScale[level]; scale *= 2) size = {(size.width + 1) / 2, (size.height + 1) / 2};
  return size;
}

std::size_t ridge_map_bytes(Size plane, const RidgeOptions& options) {
  std::size_t bytes = 64;  // the count
  for (int k = 0; k < kRidgeLevels; ++k) {
    const Size size = ridge_level_size(plane, k);
    bytes += (static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) * sizeof(RidgePixel) + 63) /
             64 * 64;
  }
  return bytes + static_cast<std::size_t>(options.max_points) * 2 * sizeof(float);
}

RidgeMap lay_out(Size plane, const RidgeOptions& options, std::byte* memory) {
  RidgeMap map;
  map.count = reinterpret_cast<int*>(memory);
  memory += 64;
  for (int k = 0; k < kRidgeLevels; ++k) {
    const Size size = ridge_level_size(plane, k);
    map.level[k] = {reinterpret_cast<RidgePixel*>(memory), size.width, size.height};
    memory += (static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height) * sizeof(RidgePixel) + 63) /
              64 * 64;
  }
  map.points = reinterpret_cast<float*>(memory);
  map.capacity = options.max_points;
  return map;
}

namespace cpu {

void ridges(const Context& context, Workspace& workspace, View<const float> plane, View<const std::uint8_t> mask,
            const RidgeOptions& options, const RidgeMap& out) {
  check_ridges(plane, mask, options, out);
  *out.count = 0;
  const int width = plane.width, height = plane.height;
  if (plane.empty()) return;
  const Workspace::Frame frame(workspace);
  const HessianTaps taps = hessian_taps(static_cast<double>(options.sigma_px));

  const Planes full = take_planes(workspace, width, height);
  std::uint8_t* inside =
      workspace.take<std::uint8_t>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  const int chunks = (height + kRowGrain - 1) / kRowGrain, threads = context.threads();
  double* sums = workspace.take<double>(static_cast<std::size_t>(chunks));
  double* areas = workspace.take<double>(static_cast<std::size_t>(chunks));
  const float* zeros = take_row(workspace, width);
  const int padded = width + 2 * kPad;
  float* lines = workspace.take<float>(static_cast<std::size_t>(7 * threads * padded));
  std::fill_n(lines, 7 * threads * padded, 0.0f);
  std::uint8_t* bytes = workspace.take<std::uint8_t>(static_cast<std::size_t>(threads * padded));
  std::fill_n(bytes, threads * padded, std::uint8_t{0});

  context.parallel_for(height, kRowGrain, [&](int begin, int end, int slot) {
    float* line[7];
    for (int k = 0; k < 7; ++k) line[k] = lines + (7 * slot + k) * padded + kPad;
    HessianRow row;
    row.vg = line[0], row.v1 = line[1], row.v2 = line[2], row.xx = line[3], row.xy = line[4], row.yy = line[5];
    row.inside = line[6];
    double sum = 0, area = 0;
    for (int y = begin; y < end; ++y) {
      erode_row(mask, y, options.rim_px, bytes + slot * padded + kPad, inside + std::ptrdiff_t{y} * width, line[6]);
      for (int i = -taps.radius; i <= taps.radius; ++i)
        row.rows[i + taps.radius] = y + i < 0 || y + i >= height ? zeros : plane.row(y + i);
      row.strength = full.at[0].row(y), row.c2 = full.at[1].row(y), row.s2 = full.at[2].row(y);
      hessian_row(taps, row, width);
      sum_row(row.strength, width, sum);
      sum_row(row.inside, width, area);
    }
    sums[begin / kRowGrain] = sum;
    areas[begin / kRowGrain] = area;
  });
  double sum = 0, area = 0;
  for (int i = 0; i < chunks; ++i) sum += sums[i], area += areas[i];
  const auto knee = static_cast<float>(static_cast<double>(options.saturation) * sum / std::max(area, 1.0) + 1e-9);

  context.parallel_for(height, kRowGrain, [&](int begin, int end, int) {
    for (int y = begin; y < end; ++y)
      saturate_row(full.at[0].row(y), full.at[1].row(y), full.at[2].row(y), knee, width);
  });
  Planes planes = full;
  for (int k = kRidgeLevels - 1; k >= 0; --k) {
    pack_level(context, workspace, planes, k == kRidgeLevels - 1 ? inside : nullptr, out.level[k]);
    if (k == 0) break;
    const Planes half = take_planes(workspace, out.level[k - 1].width, out.level[k - 1].height);
    halve(context, workspace, planes, half);
    planes = half;
  }
  if (out.capacity > 0) choose_points(out.level[kRidgeLevels - 1], area, out);
}

}  // namespace cpu
}  // namespace fastretina
