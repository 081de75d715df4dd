#include "refine/refine_kernels.h"

#include <algorithm>

#include "refine/clones.h"
#include "refine/refine_tile.h"

namespace fastretina::refine_kernels {
namespace {

using namespace refine_math;

FR_INLINE void sample_tile(const Job& job, const float* __restrict u, const float* __restrict v,
                           const float* __restrict m0, const float* __restrict m1, const float* __restrict m2, int n,
                           Tile& t) {
  for (int i = 0; i < n; ++i) sample_point(job, u[i], v[i], m0[i], m1[i], m2[i], i, t);
}

FR_INLINE void dot(const float* __restrict a, const float* __restrict b, float* __restrict lanes, int n) {
  float t[kLanes];
  for (int l = 0; l < kLanes; ++l) t[l] = lanes[l];
  for (int i = 0; i < n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) t[l] = std::fmaf(a[i + l], b[i + l], t[l]);
  for (int l = 0; l < kLanes; ++l) lanes[l] = t[l];
}

FR_INLINE void total(const float* __restrict a, float* __restrict lanes, int n) {
  float t[kLanes];
  for (int l = 0; l < kLanes; ++l) t[l] = lanes[l];
  for (int i = 0; i < n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) t[l] += a[i + l];
  for (int l = 0; l < kLanes; ++l) lanes[l] = t[l];
}

FR_INLINE void weigh(const Tile& t, const float* bx, const float* by, float* __restrict gx, float* __restrict gy,
                     int n) {
  if (by == nullptr) {
    for (int i = 0; i < n; ++i) weigh_point(t, bx, nullptr, i, gx, gy);
  } else if (bx == nullptr) {
    for (int i = 0; i < n; ++i) weigh_point(t, nullptr, by, i, gx, gy);
  } else {
    for (int i = 0; i < n; ++i) weigh_point(t, bx, by, i, gx, gy);
  }
}

FR_INLINE void accumulate_body(const Job& job, int q, int begin, int end, double* sums) {
  alignas(64) float lanes[kMaxSums][kLanes];
  const int count = sum_count(q);
  for (int i = 0; i < count; ++i)
    for (int l = 0; l < kLanes; ++l) lanes[i][l] = 0;
  Tile t;
  for (int at = begin; at < end; at += kTile) {
    const int n = std::min(kTile, end - at);
    const PointSet& p = job.points;
    sample_tile(job, p.u + at, p.v + at, p.m[0] + at, p.m[1] + at, p.m[2] + at, n, t);
    const Basis b = basis_of(job.kind, t);
    for (int j = 0; j < q; ++j) weigh(t, b.x[j], b.y[j], t.gx[j], t.gy[j], n);
    int s = 0;
    for (int j = 0; j < q; ++j)
      for (int k = j; k < q; ++k, ++s) {
        if (b.x[k] != nullptr) dot(t.gx[j], b.x[k], lanes[s], n);
        if (b.y[k] != nullptr) dot(t.gy[j], b.y[k], lanes[s], n);
      }
    const float* with[3][2] = {{t.xm, t.ym}, {t.xs, t.ys}, {t.xf, t.yf}};
    for (const auto& w : with)
      for (int j = 0; j < q; ++j, ++s) {
        if (b.x[j] != nullptr) dot(b.x[j], w[0], lanes[s], n);
        if (b.y[j] != nullptr) dot(b.y[j], w[1], lanes[s], n);
      }
    total(t.ff, lanes[s], n);
    total(t.fm, lanes[s + 1], n);
    total(t.fs, lanes[s + 2], n);
  }
  for (int i = 0; i < count; ++i) {
    double sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += static_cast<double>(lanes[i][l]);
    sums[i] = sum;
  }
}

struct LatticeTile {
  alignas(64) std::uint32_t pixel[kTile];  // every second one: a strided load in the long loop would leave its end scalar
  alignas(64) float on[kTile], x[kTile], f[kTile], fc[kTile], fs[kTile], m[kTile], mc[kTile], ms[kTile];
};

FR_INLINE void lattice_tile(const LatticeJob& job, const std::uint32_t* __restrict moving, int first, int n,
                            LatticeTile& t) {
  for (int i = 0; i < n; ++i) t.pixel[i] = moving[2 * i];
  for (int i = 0; i < n; ++i) {
    const float column = static_cast<float>(first + i);
    const LatticePoint p = lattice_point(job, t.pixel[i], column);
    t.on[i] = p.on;
    t.x[i] = column;
    t.f[i] = p.f, t.fc[i] = p.fc, t.fs[i] = p.fs;
    t.m[i] = p.m, t.mc[i] = p.mc, t.ms[i] = p.ms;
  }
}

FR_INLINE void lattice_row_body(const LatticeJob& job, double* sums) {
  alignas(64) float lanes[kLatticeSums][kLanes] = {};
  LatticeTile t;
  const int count = (job.moving_width + 1) / 2;
  for (int at = 0; at < count; at += kTile) {
    const int n = std::min(kTile, count - at), padded = (n + kLanes - 1) / kLanes * kLanes;
    lattice_tile(job, job.moving + 2 * at, at, n, t);
    for (float* a : {t.on, t.x, t.f, t.fc, t.fs, t.m, t.mc, t.ms}) std::fill(a + n, a + padded, 0.0f);
    total(t.on, lanes[kN], padded);
    dot(t.on, t.x, lanes[kX], padded);
    total(t.f, lanes[kF], padded);
    total(t.m, lanes[kM], padded);
    dot(t.f, t.f, lanes[kFF], padded);
    dot(t.m, t.m, lanes[kMM], padded);
    dot(t.f, t.m, lanes[kFM], padded);
    dot(t.fc, t.fc, lanes[kVF], padded);
    dot(t.fs, t.fs, lanes[kVF], padded);
    dot(t.mc, t.mc, lanes[kVM], padded);
    dot(t.ms, t.ms, lanes[kVM], padded);
    dot(t.fc, t.mc, lanes[kCC], padded);
    dot(t.fs, t.ms, lanes[kSS], padded);
    dot(t.fc, t.ms, lanes[kCS], padded);
    dot(t.fs, t.mc, lanes[kSC], padded);
  }
  for (int k = 0; k < kLatticeSums; ++k) {
    double sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += static_cast<double>(lanes[k][l]);
    sums[k] = sum;
  }
}

FR_INLINE void gather_body(const GatherJob& job, const float* __restrict x, const float* __restrict y, int n,
                           const PointSet& out) {
  float* __restrict m0 = out.m[0], * __restrict m1 = out.m[1], * __restrict m2 = out.m[2];
  for (int i = 0; i < n; ++i) {
    const float lx = std::fmaf(x[i] + 0.5f, job.per_plane_px, -0.5f),
                ly = std::fmaf(y[i] + 0.5f, job.per_plane_px, -0.5f);
    const Sample s = sample(job.level, job.stride, job.width, job.height, lx, ly);
    m0[i] = s.f[0];
    m1[i] = s.f[1];
    m2[i] = s.f[2];
  }
}

// seen[i] is kept where the four diagonal neighbours of (x, y) are inside: well_inside() without a branch.
FR_INLINE void look_around(const View<const std::uint32_t>& finest, const float* __restrict x, const float* __restrict y,
                           float margin, int n, std::uint32_t* __restrict seen) {
  const float right = static_cast<float>(finest.width - 1), bottom = static_cast<float>(finest.height - 1);
  const auto stride = static_cast<std::int32_t>(finest.stride);
  const std::uint32_t* __restrict data = finest.data;
  for (int corner = 0; corner < 4; ++corner) {
    const float dx = corner & 1 ? margin : -margin, dy = corner & 2 ? margin : -margin;
    for (int i = 0; i < n; ++i) {
      const float ax = x[i] + dx, ay = y[i] + dy;
      const float cx = ax > 0 ? (ax < right ? ax : right) : 0.0f, cy = ay > 0 ? (ay < bottom ? ay : bottom) : 0.0f;
      const auto ix = static_cast<std::int32_t>(cx + 0.5f), iy = static_cast<std::int32_t>(cy + 0.5f);
      const bool within = (ax > -0.5f) & (ay > -0.5f) & (ax < right + 0.5f) & (ay < bottom + 0.5f);
      const std::uint32_t pixel = data[iy * stride + ix];
      seen[i] &= within ? pixel >> 24 : 0u;
    }
  }
}

FR_INLINE void place_tile(const OverlapJob& job, const float* __restrict px, const float* __restrict py, int n,
                          float* __restrict u, float* __restrict v, float* __restrict x, float* __restrict y,
                          std::uint32_t* __restrict seen) {
  for (int i = 0; i < n; ++i) {
    u[i] = static_cast<float>((static_cast<double>(px[i]) - job.frame.cx) / job.frame.radius);
    v[i] = static_cast<float>((static_cast<double>(py[i]) - job.frame.cy) / job.frame.radius);
  }
  for (int i = 0; i < n; ++i) {
    float w;
    map_point(job.map, u[i], v[i], x[i], y[i], w);
    seen[i] = w > 0 ? 255u : 0u;
  }
}

FR_INLINE void overlap_body(const OverlapJob& job, const float* points, int count, const PlacedPoints& out, int& found) {
  alignas(64) float px[kTile], py[kTile], u[kTile], v[kTile], x[kTile], y[kTile];
  alignas(64) std::uint32_t seen[kTile];
  found = 0;
  for (int at = 0; at < count; at += kTile) {
    const int n = std::min(kTile, count - at);
    for (int i = 0; i < n; ++i) {
      const float* p = points + 2 * std::ptrdiff_t{job.thin} * (at + i);
      px[i] = p[0], py[i] = p[1];
    }
    place_tile(job, px, py, n, u, v, x, y, seen);
    look_around(job.fixed, x, y, job.margin, n, seen);
    look_around(job.moving, px, py, job.margin, n, seen);
    for (int i = 0; i < n; ++i) {
      out.x[found] = px[i], out.y[found] = py[i], out.u[found] = u[i], out.v[found] = v[i];
      found += seen[i] != 0;
    }
  }
}

FR_INLINE void apart_body(const FloatMap& a, const FloatMap& b, const float* __restrict u, const float* __restrict v, int n,
                          double& sum) {
  alignas(64) double lanes[kLanes] = {};
  for (int at = 0; at < n; at += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      float xa, ya, xb, yb, w;
      map_point(a, u[at + l], v[at + l], xa, ya, w);
      map_point(b, u[at + l], v[at + l], xb, yb, w);
      const double dx = static_cast<double>(xa) - static_cast<double>(xb);
      const double dy = static_cast<double>(ya) - static_cast<double>(yb);
      lanes[l] += dx * dx + dy * dy;
    }
  sum = 0;
  for (const double lane : lanes) sum += lane;
}

}  // namespace

FR_CLONES(accumulate, (const Job& job, int parameters, int begin, int end, double* sums),
          (job, parameters, begin, end, sums))
FR_CLONES(lattice_row, (const LatticeJob& job, double* sums), (job, sums))
FR_CLONES(gather, (const GatherJob& job, const float* x, const float* y, int n, const PointSet& out),
          (job, x, y, n, out))
FR_CLONES(overlap, (const OverlapJob& job, const float* points, int count, const PlacedPoints& out, int& found),
          (job, points, count, out, found))
FR_CLONES(apart, (const FloatMap& a, const FloatMap& b, const float* u, const float* v, int n, double& sum),
          (a, b, u, v, n, sum))

}  // namespace fastretina::refine_kernels
