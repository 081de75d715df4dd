// refine() on the device. A level: one block chooses its points; then every block sums its
// chunk of them for the model that the climb (refine_climb.h) asks for, and the last one to finish tells the climb. As
// the host cannot know how many measurements a climb takes, kLaunches of them are queued (those behind the end return
// at once) and a kernel of one block does whatever is left.
#include <algorithm>

#include "core/cuda.h"
#include "core/device.h"
#include "refine/refine_check.h"
#include "refine/refine_climb.h"
#include "refine/refine_tile.h"

namespace fastretina::cuda {
namespace {

using namespace refine_math;
using namespace refine_kernels;

constexpr int kThreads = 256, kLaunches = 12;
constexpr int kChooseThreads = 512;

// What is known of the pair so far; the kernels of a call pass it on.
struct State {
  Model first, model;
  Climb climb;
  Refinement out;
  Transform result;
  double furthest;
  RidgeCorrelation before, after;
  int finished;  // blocks of a measurement
  bool stopped;  // a bound was hit, or there is nothing to refine on
};

struct Maps {
  RidgeMap fixed, moving;
  Frame frame;
  __host__ __device__ View<const RidgePixel> finest(const RidgeMap& map) const { return map.level[kRidgeLevels - 1]; }
};

struct Points {
  float *x = nullptr, *y = nullptr;
  PointSet set{};
  double* sums = nullptr;  // kMaxSums a chunk
};

// --- the order of things ----------------------------------------------------------------------------------------
__global__ void begin_kernel(Maps maps, const Transform* start, RefineOptions options, State* state) {
  State& s = *state;
  s.out = {};
  s.out.T_fixed_moving = *start;
  s.out.score_before = s.out.score_after = s.before.score;
  s.furthest = 0;
  s.finished = 0;
  s.stopped = !model_of(*start, refined_kind(*start, options), maps.frame, s.model);
  s.first = s.model;
  s.result = *start;
}

// The points of the overlap in the lattice's order, and what the climb must know of them. One block.
__global__ void __launch_bounds__(kChooseThreads)
    choose_kernel(Maps maps, int level, RefineOptions options, Points points, State* state) {
  State& s = *state;
  if (s.stopped) return;
  __shared__ Climb climb;  // too much for registers
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, scale = 1 << (kRidgeLevels - 1 - level),
            thin = thinning(scale);
  const View<const RidgePixel> fixed = maps.finest(maps.fixed), own = maps.finest(maps.moving),
                               coarse = maps.moving.level[level];
  const FloatMap map = float_map(s.model, 1);
  const auto margin = static_cast<float>(kMarginPx * scale);
  const int candidates = (*maps.moving.count + thin - 1) / thin;
  int n = 0;
  double cx = 0, cy = 0;
  float low[2] = {1e30f, 1e30f}, high[2] = {-1e30f, -1e30f};
  for (int begin = 0; begin < candidates; begin += kChooseThreads) {
    const int i = (begin + t) * thin;
    float px = 0, py = 0, u = 0, v = 0, x, y, w;
    bool chosen = false;
    if (begin + t < candidates) {
      px = maps.moving.points[2 * i], py = maps.moving.points[2 * i + 1];
      u = static_cast<float>((static_cast<double>(px) - maps.frame.cx) / maps.frame.radius);
      v = static_cast<float>((static_cast<double>(py) - maps.frame.cy) / maps.frame.radius);
      map_point(map, u, v, x, y, w);
      chosen = well_inside(fixed, x, y, w, margin) && well_inside(own, px, py, 1, margin);
    }
    const int at = block_place<kChooseThreads>(chosen, n);
    if (!chosen) continue;
    points.x[at] = px, points.y[at] = py, points.set.u[at] = u, points.set.v[at] = v;
    cx += static_cast<double>(px), cy += static_cast<double>(py);
    low[0] = fminf(low[0], u), high[0] = fmaxf(high[0], u), low[1] = fminf(low[1], v), high[1] = fmaxf(high[1], v);
  }
  cx = block_sum<kChooseThreads>(cx), cy = block_sum<kChooseThreads>(cy);
  __shared__ float extremes[4][kChooseThreads / 32];
  for (int c = 0; c < 2; ++c) {
    for (int mask = 16; mask > 0; mask /= 2) {
      low[c] = fminf(low[c], __shfl_xor_sync(kAllLanes, low[c], mask));
      high[c] = fmaxf(high[c], __shfl_xor_sync(kAllLanes, high[c], mask));
    }
    extremes[c][warp] = low[c], extremes[2 + c][warp] = high[c];
  }
  __syncthreads();
  for (int k = 0; k < kChooseThreads / 32; ++k)
    for (int c = 0; c < 2; ++c) low[c] = fminf(low[c], extremes[c][k]), high[c] = fmaxf(high[c], extremes[2 + c][k]);
  if (n < max(options.min_points, kLanes)) {
    if (t == 0) s.stopped = true;
    return;
  }
  const Turn turn = turn_at(transform_of(s.model), {cx / n, cy / n});
  n -= n % kLanes;

  const float per_px = 1.0f / static_cast<float>(scale);
  double mean = 0;
  for (int i = t; i < n; i += kChooseThreads) {
    const float lx = fmaf(points.x[i] + 0.5f, per_px, -0.5f), ly = fmaf(points.y[i] + 0.5f, per_px, -0.5f);
    const Sample value = sample(coarse.data, coarse.stride, coarse.width, coarse.height, lx, ly);
    for (int k = 0; k < 3; ++k) points.set.m[k][i] = value.f[k];
    mean += static_cast<double>(value.f[0]);
  }
  mean = block_sum<kChooseThreads>(mean) / n;
  double mm = 0;
  for (int i = t; i < n; i += kChooseThreads) {
    const double c = static_cast<double>(points.set.m[1][i]), d = static_cast<double>(points.set.m[2][i]);
    const double m0 = static_cast<double>(points.set.m[0][i]) - mean, m1 = turn.m00 * c + turn.m01 * d,
                 m2 = turn.m10 * c + turn.m11 * d;
    mm += m0 * m0 + m1 * m1 + m2 * m2;
    points.set.m[0][i] = static_cast<float>(m0), points.set.m[1][i] = static_cast<float>(m1),
    points.set.m[2][i] = static_cast<float>(m2);
  }
  mm = block_sum<kChooseThreads>(mm);
  if (t != 0) return;
  climb = Climb();
  climb.options = options, climb.prior = s.first, climb.scale = scale, climb.points = n, climb.mm = mm;
  const double samples = n * thin * options.samples_per_point;
  climb.independent = samples > 8 ? samples : 8.0;
  climb.box = {static_cast<double>(low[0]), static_cast<double>(high[0]), static_cast<double>(low[1]),
               static_cast<double>(high[1])};
  climb.start(s.model);
  s.climb = climb;
}

// --- the sums of a chunk, by a whole block ----------------------------------------------------------------------
struct Chains {
  Tile tile;
  float ones[kTile];
  const float *left[2][kMaxSums],
      *right[2][kMaxSums];  // a sum is left . right of the first, then of the second; NULL: 0
};

// Which arrays make sum s; one thread a sum.
__device__ void find_chain(Chains& c, const Basis& b, int q, int s) {
  const Tile& t = c.tile;
  c.left[0][s] = c.left[1][s] = nullptr;
  const auto set = [&](int part, const float* left, const float* right) {
    if (right) c.left[part][s] = left, c.right[part][s] = right;
  };
  int at = 0;
  for (int j = 0; j < q; ++j)
    for (int k = j; k < q; ++k, ++at)
      if (at == s) set(0, t.gx[j], b.x[k]), set(1, t.gy[j], b.y[k]);
  for (int with = 0; with < 3; ++with)
    for (int j = 0; j < q; ++j, ++at)
      if (at == s) {
        set(0, with == 0 ? t.xm : with == 1 ? t.xs : t.xf, b.x[j]);
        set(1, with == 0 ? t.ym : with == 1 ? t.ys : t.yf, b.y[j]);
      }
  if (s == at) set(0, t.ff, c.ones);
  if (s == at + 1) set(0, t.fm, c.ones);
  if (s == at + 2) set(0, t.fs, c.ones);
}

// Sixteen chains of fmaf a sum, each over every sixteenth point: the CPU twin's to the bit.
__device__ void sum_chunk(const Job& job, int q, int begin, int end, Chains& c, double* sums) {
  constexpr int kOwn = (kMaxSums * kLanes + kThreads - 1) / kThreads;
  const int t = static_cast<int>(threadIdx.x), count = sum_count(q);
  const Basis b = basis_of(job.kind, c.tile);
  __syncthreads();
  if (t < kTile) c.ones[t] = 1;
  if (t < count) find_chain(c, b, q, t);
  float chain[kOwn] = {};
  for (int at = begin; at < end; at += kTile) {
    const int n = min(kTile, end - at);
    const PointSet& p = job.points;
    __syncthreads();
    for (int i = t; i < n; i += kThreads)
      sample_point(job, p.u[at + i], p.v[at + i], p.m[0][at + i], p.m[1][at + i], p.m[2][at + i], i, c.tile);
    __syncthreads();
    for (int i = t; i < q * n; i += kThreads)
      weigh_point(c.tile, b.x[i / n], b.y[i / n], i % n, c.tile.gx[i / n], c.tile.gy[i / n]);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      const int own = t + k * kThreads, s = own / kLanes, lane = own % kLanes;
      if (s >= count) continue;
      for (int part = 0; part < 2; ++part) {
        const float *left = c.left[part][s], *right = c.right[part][s];
        for (int i = lane; left && i < n; i += kLanes) chain[k] = fmaf(left[i], right[i], chain[k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kOwn; ++k) {
    const int own = t + k * kThreads, s = own / kLanes;
    double sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += static_cast<double>(__shfl_sync(kAllLanes, chain[k], (t & 16) + l));
    if (s < count && own % kLanes == 0) sums[s] = sum;
  }
}

// All chunks together, told to the climb.
__device__ void tell(State& state, const double* chunk_sums, int chunks, int count) {
  __shared__ double total[kMaxSums];
  const int t = static_cast<int>(threadIdx.x);
  if (t < count) {
    double sum = 0;
    for (int chunk = 0; chunk < chunks; ++chunk) sum += chunk_sums[chunk * kMaxSums + t];
    total[t] = sum;
  }
  __syncthreads();
  if (t == 0) state.climb.tell(total);
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) measure_kernel(View<const RidgePixel> fixed, Points points, State* state) {
  __shared__ Chains chains;
  __shared__ bool last;
  State& s = *state;
  if (s.stopped || s.climb.done()) return;
  const int n = s.climb.points, q = parameter_count(s.first.kind), chunks = (n + kChunk - 1) / kChunk,
            chunk = static_cast<int>(blockIdx.x);
  if (chunk >= chunks) return;
  const Job job = job_of(s.climb.next(), fixed, s.climb.scale, points.set);
  sum_chunk(job, q, chunk * kChunk, min((chunk + 1) * kChunk, n), chains, points.sums + chunk * kMaxSums);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&s.finished, 1) == chunks - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) s.finished = 0;
  tell(s, points.sums, chunks, sum_count(q));
}

// Whatever is left of the climb, and what the level found. One block.
__global__ void __launch_bounds__(kThreads) finish_kernel(View<const RidgePixel> fixed, Points points, State* state) {
  __shared__ Chains chains;
  State& s = *state;
  if (s.stopped) return;
  const int n = s.climb.points, q = parameter_count(s.first.kind), chunks = (n + kChunk - 1) / kChunk,
            t = static_cast<int>(threadIdx.x);
  while (!s.climb.done()) {
    const Job job = job_of(s.climb.next(), fixed, s.climb.scale, points.set);
    for (int chunk = 0; chunk < chunks; ++chunk)
      sum_chunk(job, q, chunk * kChunk, min((chunk + 1) * kChunk, n), chains, points.sums + chunk * kMaxSums);
    __syncthreads();
    tell(s, points.sums, chunks, sum_count(q));
  }
  const FloatMap a = float_map(s.first, 1), b = float_map(s.climb.model(), 1);
  double sum = 0;
  for (int i = t; i < n; i += kThreads) {
    float xa, ya, xb, yb, w;
    map_point(a, points.set.u[i], points.set.v[i], xa, ya, w);
    map_point(b, points.set.u[i], points.set.v[i], xb, yb, w);
    const double dx = static_cast<double>(xa) - static_cast<double>(xb),
                 dy = static_cast<double>(ya) - static_cast<double>(yb);
    sum += dx * dx + dy * dy;
  }
  sum = block_sum<kThreads>(sum);
  if (t != 0) return;
  s.model = s.climb.model();
  s.out.iterations += s.climb.iterations();
  s.furthest = reach(s.climb.box, s.first, s.model);
  s.out.shift_px = std::sqrt(sum / max(n, 1));
}

__global__ void settle_kernel(Maps maps, const Transform* start, RefineOptions options, State* state) {
  State& s = *state;
  if (s.stopped) return;
  s.result = transform_of(s.model);
  s.stopped = !(s.furthest <= options.max_shift_px &&
                frame_shift(*start, s.result, maps.finest(maps.moving)) <= options.max_frame_shift_px);
}

__global__ void end_kernel(RefineOptions options, State* state, Refinement* out) {
  State& s = *state;
  s.out.refused = s.stopped;
  if (!s.stopped && s.after.score > s.before.score)
    accept(s.result, s.after.score, s.before.overlap_px, options, s.out);
  else
    s.out.shift_px = 0;
  *out = s.out;
}

__global__ void stop_kernel(State* state) { state->stopped = true; }

}  // namespace

void refine(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
            const Transform& start, const RefineOptions& options, Refinement* out) {
  check_refine(fixed, moving, options);
  const Workspace::Frame scratch(workspace);
  const Maps maps{fixed, moving, frame_of(moving)};
  const int most = moving.capacity, chunks = most / kChunk + 1;
  State* state = workspace.take<State>(1);
  Points points;
  for (float** array :
       {&points.x, &points.y, &points.set.u, &points.set.v, &points.set.m[0], &points.set.m[1], &points.set.m[2]})
    *array = workspace.take<float>(static_cast<std::size_t>(most + kLanes));
  points.sums = workspace.take<double>(static_cast<std::size_t>(chunks) * kMaxSums);

  ridge_correlation(context, workspace, fixed, moving, {&start, 1}, kRidgeRowStep, &state->before);
  launch(context, 1, 1, begin_kernel, maps, &start, options, state);
  for (int k = options.first_level; k < kRidgeLevels; ++k) {
    const View<const RidgePixel> f = fixed.level[k], m = moving.level[k];
    if (std::min({f.width, f.height, m.width, m.height}) < 2) {
      if (k == kRidgeLevels - 1) launch(context, 1, 1, stop_kernel, state);
      continue;
    }
    launch(context, 1, kChooseThreads, choose_kernel, maps, k, options, points, state);
    const dim3 blocks(static_cast<unsigned>(most / thinning(kRidgeScale[k]) / kChunk + 1));
    for (int i = 0; i < kLaunches; ++i) launch(context, blocks, kThreads, measure_kernel, f, points, state);
    launch(context, 1, kThreads, finish_kernel, f, points, state);
  }
  launch(context, 1, 1, settle_kernel, maps, &start, options, state);
  ridge_correlation(context, workspace, fixed, moving, {&state->result, 1}, kRidgeRowStep, &state->after);
  launch(context, 1, 1, end_kernel, options, state, out);
}

}  // namespace fastretina::cuda
