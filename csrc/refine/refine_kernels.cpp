#include "refine/refine_kernels.h"

#include <algorithm>

#include "refine/clones.h"

namespace fastretina::refine_kernels {
namespace {

using namespace refine_math;

struct Tile {
  alignas(64) float qxx[kTile], qxy[kTile], qyy[kTile];          // products of the gradients, summed over channels
  alignas(64) float xm[kTile], ym[kTile], xf[kTile], yf[kTile];  // gradients with the values of both maps
  alignas(64) float xs[kTile], ys[kTile];                        // gradient of the strength
  alignas(64) float ff[kTile], fm[kTile], fs[kTile];
  alignas(64) float one[kTile];                  // 1 / w
  alignas(64) float b[7][kTile];                 // other basis functions
  alignas(64) float bx[2][kTile], by[2][kTile];  // those of the perspective terms
  alignas(64) float gx[12][kTile], gy[12][kTile];
};

FR_INLINE void sample_tile(const Job& job, const float* __restrict u, const float* __restrict v,
                           const float* __restrict m0, const float* __restrict m1, const float* __restrict m2, int n,
                           Tile& t) {
  const float g = job.per_plane_px;
  for (int i = 0; i < n; ++i) {
    float x, y, w;
    map_point(job.map, u[i], v[i], x, y, w);
    const Sample s = sample(job.level, job.stride, job.width, job.height, x, y);
    const float gx0 = s.gx[0] * g, gx1 = s.gx[1] * g, gx2 = s.gx[2] * g;
    const float gy0 = s.gy[0] * g, gy1 = s.gy[1] * g, gy2 = s.gy[2] * g;
    t.qxx[i] = std::fmaf(gx2, gx2, std::fmaf(gx1, gx1, gx0 * gx0));
    t.qxy[i] = std::fmaf(gx2, gy2, std::fmaf(gx1, gy1, gx0 * gy0));
    t.qyy[i] = std::fmaf(gy2, gy2, std::fmaf(gy1, gy1, gy0 * gy0));
    t.xm[i] = std::fmaf(gx2, m2[i], std::fmaf(gx1, m1[i], gx0 * m0[i]));
    t.ym[i] = std::fmaf(gy2, m2[i], std::fmaf(gy1, m1[i], gy0 * m0[i]));
    t.xf[i] = std::fmaf(gx2, s.f[2], std::fmaf(gx1, s.f[1], gx0 * s.f[0]));
    t.yf[i] = std::fmaf(gy2, s.f[2], std::fmaf(gy1, s.f[1], gy0 * s.f[0]));
    t.xs[i] = gx0;
    t.ys[i] = gy0;
    t.ff[i] = std::fmaf(s.f[2], s.f[2], std::fmaf(s.f[1], s.f[1], s.f[0] * s.f[0]));
    t.fm[i] = std::fmaf(s.f[2], m2[i], std::fmaf(s.f[1], m1[i], s.f[0] * m0[i]));
    t.fs[i] = s.f[0];
    const float inverse = 1 / w;
    t.one[i] = inverse;
    t.b[0][i] = u[i] * inverse;
    t.b[1][i] = v[i] * inverse;
    t.b[2][i] = u[i] * u[i];
    t.b[3][i] = u[i] * v[i];
    t.b[4][i] = v[i] * v[i];
    t.b[5][i] = job.mirror * v[i];
    t.b[6][i] = -t.b[5][i];
    // Perspective: dX / dp6 = bend (X - ox) u / w and so on.
    const float px = job.bend * (x - job.ox), py = job.bend * (y - job.oy);
    t.bx[0][i] = px * t.b[0][i];
    t.bx[1][i] = px * t.b[1][i];
    t.by[0][i] = py * t.b[0][i];
    t.by[1][i] = py * t.b[1][i];
  }
}

// d(X, Y) / d(parameter), NULL where it is 0.
struct Basis {
  const float* x[12] = {};
  const float* y[12] = {};
};

FR_INLINE Basis basis_of(TransformKind kind, const Tile& t) {
  Basis b;
  if (kind == TransformKind::similarity) {
    b.x[0] = t.one, b.x[2] = t.b[0], b.x[3] = t.b[6];
    b.y[1] = t.one, b.y[2] = t.b[5], b.y[3] = t.b[0];
    return b;
  }
  const int half = kind == TransformKind::quadratic ? 6 : 3;
  const float* terms[6] = {t.one, t.b[0], t.b[1], t.b[2], t.b[3], t.b[4]};
  for (int i = 0; i < half; ++i) b.x[i] = b.y[half + i] = terms[i];
  if (kind == TransformKind::homography) {
    for (int i = 0; i < 2; ++i) b.x[6 + i] = t.bx[i], b.y[6 + i] = t.by[i];
  }
  return b;
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

// Q times the basis: the gradient of a parameter against the gradients of the maps.
FR_INLINE void weigh(const Tile& t, const float* bx, const float* by, float* __restrict gx, float* __restrict gy,
                     int n) {
  if (by == nullptr) {
    for (int i = 0; i < n; ++i) gx[i] = t.qxx[i] * bx[i], gy[i] = t.qxy[i] * bx[i];
  } else if (bx == nullptr) {
    for (int i = 0; i < n; ++i) gx[i] = t.qxy[i] * by[i], gy[i] = t.qyy[i] * by[i];
  } else {
    for (int i = 0; i < n; ++i) {
      const float a = bx[i], b = by[i];
      gx[i] = std::fmaf(t.qxy[i], b, t.qxx[i] * a);
      gy[i] = std::fmaf(t.qyy[i], b, t.qxy[i] * a);
    }
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
  alignas(64) float on[kTile], x[kTile], f[kTile], fc[kTile], fs[kTile], m[kTile], mc[kTile], ms[kTile];
};

FR_INLINE void lattice_tile(const LatticeJob& job, const std::uint32_t* __restrict moving, int first, int n,
                            LatticeTile& t) {
  const float right = static_cast<float>(job.width - 1), bottom = static_cast<float>(job.height - 1);
  const auto stride = static_cast<std::int32_t>(job.stride);
  for (int i = 0; i < n; ++i) {
    const float column = static_cast<float>(first + i);
    float x, y, w;
    map_point(job.map, std::fmaf(job.du, column, job.u0), job.v, x, y, w);
    // Clamped first, so that the conversion is always defined (a NaN ends at 0) and the loop has no branch.
    const float cx = x > 0 ? (x < right ? x : right) : 0.0f, cy = y > 0 ? (y < bottom ? y : bottom) : 0.0f;
    const auto ix = static_cast<std::int32_t>(cx + 0.5f), iy = static_cast<std::int32_t>(cy + 0.5f);
    const std::uint32_t under = job.fixed[iy * stride + ix], pixel = moving[2 * i];
    const float seen = (w > 0) & (x > -0.5f) & (y > -0.5f) & (x < right + 0.5f) & (y < bottom + 0.5f) ? 1.0f : 0.0f;
    const float on = seen * static_cast<float>(static_cast<std::int32_t>(under >> 31 & pixel >> 31));
    const Sample s = sample(job.fixed, job.stride, job.width, job.height, x, y);
    t.on[i] = on;
    t.x[i] = column;
    t.f[i] = s.f[0] * on, t.fc[i] = s.f[1] * on, t.fs[i] = s.f[2] * on;
    t.m[i] = strength_of(pixel) * on, t.mc[i] = c2_of(pixel) * on, t.ms[i] = s2_of(pixel) * on;
  }
}

FR_INLINE void lattice_row_body(const LatticeJob& job, double* sums) {
  alignas(64) float lanes[kLatticeSums][kLanes] = {};
  LatticeTile t{};
  const int count = (job.moving_width + 1) / 2;
  for (int at = 0; at < count; at += kTile) {
    const int n = std::min(kTile, count - at), padded = (n + kLanes - 1) / kLanes * kLanes;
    lattice_tile(job, job.moving + 2 * at, at, n, t);
    for (float* a : {t.on, t.f, t.fc, t.fs, t.m, t.mc, t.ms}) std::fill(a + n, a + padded, 0.0f);
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

}  // namespace

FR_CLONES(accumulate, (const Job& job, int parameters, int begin, int end, double* sums),
          (job, parameters, begin, end, sums))
FR_CLONES(lattice_row, (const LatticeJob& job, double* sums), (job, sums))
FR_CLONES(gather, (const GatherJob& job, const float* x, const float* y, int n, const PointSet& out),
          (job, x, y, n, out))

}  // namespace fastretina::refine_kernels
