// refine_field() on the device. A stage: one block surveys the points, they are sorted by cell, then every block adds
// up a cell of what the fit asks for, and the last one to finish tells the fit (field_device.h). As the host cannot
// know how many measurements a fit takes, kLaunches of them are queued (those behind the end return at once) and a
// kernel of one block does whatever is left.
#include <algorithm>

#include "core/cuda.h"
#include "core/device.h"
#include "refine/field_device.h"
#include "refine/refine_check.h"

namespace fastretina::cuda {
namespace {

using refine_math::sample, refine_math::Sample, refine_math::Turn, refine_math::turn_at;

constexpr int kLaunches = 6;
constexpr int kSurveyThreads = 512;

// What the kernels of a call share.
struct Call {
  RidgeMap fixed, moving;
  const Transform* T;
  FieldOptions options;
  FitBuffers buffers;
  FitState* state;
};

// --- which points -----------------------------------------------------------------------------------------------
__global__ void begin_kernel(Call call, bool stopped) {
  *call.state = {};
  call.state->stopped = stopped;
}

// The points of the overlap in the lattice's order; at first the grid over them, too. One block.
__global__ void __launch_bounds__(kSurveyThreads) survey_kernel(Call call, int step, bool first) {
  FitState& s = *call.state;
  if (s.stopped) return;
  const FitBuffers& b = call.buffers;
  __shared__ double extremes[4][kSurveyThreads / 32];
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32,
            across = lattice_side(call.moving.level[kRidgeLevels - 1].width, step),
            candidates = across * lattice_side(call.moving.level[kRidgeLevels - 1].height, step);
  int n = 0;
  double bound[4] = {1e300, 1e300, 1e300, 1e300};  // least x, y, -x, -y
  for (int begin = 0; begin < candidates; begin += kSurveyThreads) {
    const int i = begin + t, x = step / 2 + i % across * step, y = step / 2 + i / across * step;
    Point at;
    const bool chosen = i < candidates && overlaps(call.fixed, call.moving, *call.T, x, y, at);
    const int to = block_place<kSurveyThreads>(chosen, n);
    if (!chosen) continue;
    b.mx[to] = static_cast<float>(x), b.my[to] = static_cast<float>(y), b.fx[to] = at.x, b.fy[to] = at.y;
    const double found[4] = {at.x, at.y, -at.x, -at.y};
    for (int k = 0; k < 4; ++k) bound[k] = fmin(bound[k], found[k]);
  }
  for (int k = 0; k < 4; ++k) {
    for (int mask = 16; mask > 0; mask /= 2) bound[k] = fmin(bound[k], __shfl_xor_sync(kAllLanes, bound[k], mask));
    if (lane == 0) extremes[k][warp] = bound[k];
  }
  __syncthreads();
  if (t != 0) return;
  for (int k = 0; k < 4; ++k)
    for (const double found : extremes[k]) bound[k] = fmin(bound[k], found);
  s.surveyed = n, s.step = step;
  if (!first) return;
  s.stopped = !enough(n, step, call.options.min_points);
  if (!s.stopped)
    s.field = grid_over({bound[0], bound[1]}, {-bound[2], -bound[3]}, call.options.cells, b.control);
}

__global__ void __launch_bounds__(kFitThreads) cell_kernel(Call call, Fold fold) {
  const FitState& s = *call.state;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (s.stopped || i >= s.surveyed) return;
  const double x = call.buffers.fx[i], y = call.buffers.fy[i];
  call.buffers.cell[i] = belongs(s.field, x, y, fold) ? place_of(s.field, x, y).cell : -1;
}

// A warp a cell counts its points.
__global__ void count_kernel(Call call) {
  const FitState& s = *call.state;
  const int cell = static_cast<int>(blockIdx.x);
  if (s.stopped || cell >= cells_across(s.field) * cells_down(s.field)) return;
  int count = 0;
  for (int i = static_cast<int>(threadIdx.x); i < s.surveyed; i += 32) count += call.buffers.cell[i] == cell;
  count = warp_sum(count);
  if (threadIdx.x == 0) call.buffers.counts[cell] = count;
}

// A warp a cell lists its points in their order.
__global__ void sort_kernel(Call call) {
  const FitState& s = *call.state;
  const FitBuffers& b = call.buffers;
  const int cell = static_cast<int>(blockIdx.x), cells = cells_across(s.field) * cells_down(s.field),
            lane = static_cast<int>(threadIdx.x);
  if (s.stopped || cell >= cells) return;
  int begin = 0;
  for (int c = lane; c < cell; c += 32) begin += b.counts[c];
  begin = warp_sum(begin);
  if (lane == 0) {
    b.first[cell] = begin;
    if (cell == cells - 1) b.first[cells] = begin + b.counts[cell];
  }
  const View<RidgePixel> m = call.moving.level[kRidgeLevels - 1];
  for (int from = 0; from < s.surveyed; from += 32) {
    const int i = from + lane;
    const bool own = i < s.surveyed && b.cell[i] == cell;
    const unsigned ballot = __ballot_sync(kAllLanes, own);
    const int k = begin + __popc(ballot & ((1u << lane) - 1));
    begin += __popc(ballot);
    if (!own) continue;
    b.order[k] = i;
    const Place place = place_of(s.field, b.fx[i], b.fy[i]);
    b.points.tx[k] = static_cast<float>(place.tx), b.points.ty[k] = static_cast<float>(place.ty);
    b.points.x[k] = static_cast<float>(b.fx[i]), b.points.y[k] = static_cast<float>(b.fy[i]);
    const Sample value = sample(m.data, m.stride, m.width, m.height, b.mx[i], b.my[i]);
    for (int c = 0; c < 3; ++c) b.points.m[c][k] = value.f[c];
  }
}

// MOVING's values are centred and turned into the FIXED frame. One block.
__global__ void __launch_bounds__(kSurveyThreads) centre_kernel(Call call) {
  FitState& s = *call.state;
  if (s.stopped) return;
  const FitBuffers& b = call.buffers;
  const int t = static_cast<int>(threadIdx.x), cells = cells_across(s.field) * cells_down(s.field), n = b.first[cells];
  double cx = 0, cy = 0, mean = 0;
  for (int k = t; k < n; k += kSurveyThreads) {
    cx += static_cast<double>(b.mx[b.order[k]]), cy += static_cast<double>(b.my[b.order[k]]);
    mean += static_cast<double>(b.points.m[0][k]);
  }
  const int some = max(n, 1);
  cx = block_sum<kSurveyThreads>(cx) / some, cy = block_sum<kSurveyThreads>(cy) / some;
  mean = block_sum<kSurveyThreads>(mean) / some;
  const Turn turn = turn_at(*call.T, {cx, cy});
  double mm = 0;
  for (int cell = t; cell < cells; cell += kSurveyThreads) {
    double own_m = 0, own_mm = 0;
    for (int k = b.first[cell]; k < b.first[cell + 1]; ++k) {
      const double c = static_cast<double>(b.points.m[1][k]), d = static_cast<double>(b.points.m[2][k]);
      const double m0 = static_cast<double>(b.points.m[0][k]) - mean, m1 = turn.m00 * c + turn.m01 * d,
                   m2 = turn.m10 * c + turn.m11 * d;
      own_m += m0, own_mm += m0 * m0 + m1 * m1 + m2 * m2;
      b.points.m[0][k] = static_cast<float>(m0), b.points.m[1][k] = static_cast<float>(m1),
      b.points.m[2][k] = static_cast<float>(m2);
    }
    b.cell_m[cell] = own_m, b.cell_mm[cell] = own_mm;
    mm += own_mm;
  }
  mm = block_sum<kSurveyThreads>(mm);
  if (t == 0) s.total.mm = mm, s.total.points = n;
}

// --- fits and answers -------------------------------------------------------------------------------------------
// From no displacement. One block.
__global__ void start_kernel(Call call, int max_iterations) {
  FitState& s = *call.state;
  if (s.stopped) return;
  const FitBuffers& b = call.buffers;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * s.field.columns * s.field.rows; i += kFitThreads) {
    b.zeros[i] = b.control[i] = 0;
  }
  if (threadIdx.x == 0)
    s.asks = Asks::now, s.climbing = true, s.damping = kFirstDamping, s.iterations = 0, s.tries = 0, s.finished = 0,
    s.max_iterations = max_iterations;
}

__device__ FieldJob job_of(const Call& call) {
  const View<RidgePixel> finest = call.fixed.level[kRidgeLevels - 1];
  return {call.buffers.points, finest.data, finest.stride, finest.width, finest.height};
}

__device__ void measure_cell(const Call& call, int cell, Asks asks, CellWork& work) {
  const FitState& s = *call.state;
  const FitBuffers& b = call.buffers;
  const int begin = b.first[cell], end = b.first[cell + 1];
  if (begin != end)
    sum_cell(job_of(call), s.field, asked(b, asks), cell, begin, end, asks == Asks::now, work, b.sums[cell]);
}

// A block a cell. question: now, for whatever the climb asks; flat or field, for an answer.
__global__ void __launch_bounds__(kFitThreads) measure_kernel(Call call, Asks question) {
  __shared__ CellWork work;
  __shared__ bool last;
  FitState& s = *call.state;
  const int cell = static_cast<int>(blockIdx.x), cells = cells_across(s.field) * cells_down(s.field);
  if (s.stopped || cell >= cells || (question == Asks::now && !s.climbing)) return;
  const Asks asks = question == Asks::now ? s.asks : question;
  measure_cell(call, cell, asks, work);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&s.finished, 1) == cells - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  if (threadIdx.x == 0) s.finished = 0;
  tell(s, call.buffers, call.options, asks);
}

// Whatever is left of the climb. One block.
__global__ void __launch_bounds__(kFitThreads) finish_kernel(Call call) {
  __shared__ CellWork work;
  FitState& s = *call.state;
  if (s.stopped) return;
  const int cells = cells_across(s.field) * cells_down(s.field);
  while (s.climbing) {
    for (int cell = 0; cell < cells; ++cell) measure_cell(call, cell, s.asks, work);
    __syncthreads();
    tell(s, call.buffers, call.options, s.asks);
    __syncthreads();
  }
}

// Held-out points have answered: their gain is kept, added to the one before (adds) or in its place.
__global__ void judge_kernel(FitState* state, bool adds, double least_gain) {
  FitState& s = *state;
  if (s.stopped) return;
  s.out.gain_nats = (adds ? s.out.gain_nats : 0) + s.of_field - s.of_flat;
  s.out.score_before = s.out.score_after = 0;
  s.stopped = s.out.gain_nats < least_gain;
}

__global__ void __launch_bounds__(kFitThreads) end_kernel(Call call, FieldRefinement* out) {
  FitState& s = *call.state;
  const FitBuffers& b = call.buffers;
  const FieldOptions& o = call.options;
  const int t = static_cast<int>(threadIdx.x);
  if (!s.stopped) {
    Field field = s.field;
    field.control = b.control;
    double sum = 0, most = 0, least = 1;
    for (int k = t; k < s.total.points; k += kFitThreads) {
      const Point d = displacement(field, {b.fx[b.order[k]], b.fy[b.order[k]]});
      const double squared = d.x * d.x + d.y * d.y;
      sum += squared, most = fmax(most, squared);
    }
    const int across = 2 * field.columns + 7, down = 2 * field.rows + 7;
    for (int k = t; k < across * down; k += kFitThreads)
      least = fmin(least, determinant_at(field, k % across, k / across));
    sum = block_sum<kFitThreads>(sum);
    __shared__ double mosts[kFitThreads], leasts[kFitThreads];
    mosts[t] = most, leasts[t] = least;
    __syncthreads();
    if (t == 0) {
      for (int k = 0; k < kFitThreads; ++k) most = fmax(most, mosts[k]), least = fmin(least, leasts[k]);
      if (s.out.score_after > s.out.score_before && std::sqrt(sum / max(s.total.points, 1)) >= o.min_displacement_px &&
          std::sqrt(most) <= o.max_displacement_px && least >= o.min_jacobian)
        s.out.field = field;
    }
  }
  if (t == 0) *out = s.out;
}

// --- the order of things ----------------------------------------------------------------------------------------
struct Queue {
  const Context& context;
  Call call;
  int most_points, most_cells;

  void choose(Fold fold) const {
    launch(context, blocks_for(most_points, kFitThreads), kFitThreads, cell_kernel, call, fold);
    launch(context, static_cast<unsigned>(most_cells), 32, count_kernel, call);
    launch(context, static_cast<unsigned>(most_cells), 32, sort_kernel, call);
    launch(context, 1, kSurveyThreads, centre_kernel, call);
  }
  void fit(int max_iterations) const {
    launch(context, 1, kFitThreads, start_kernel, call, max_iterations);
    for (int i = 0; i < kLaunches; ++i)
      launch(context, static_cast<unsigned>(most_cells), kFitThreads, measure_kernel, call, Asks::now);
    launch(context, 1, kFitThreads, finish_kernel, call);
  }
  void ask() const {
    for (const Asks question : {Asks::flat, Asks::field})
      launch(context, static_cast<unsigned>(most_cells), kFitThreads, measure_kernel, call, question);
  }
  // Do points that had no part in a fit agree better under it?
  void judge(Fold fitted, Fold held_out, int iterations, bool adds, double least_gain) const {
    choose(fitted);
    fit(iterations);
    choose(held_out);
    ask();
    launch(context, 1, 1, judge_kernel, call.state, adds, least_gain);
  }
};

FitBuffers take_buffers(Workspace& workspace, int most_points, int cells, double* control) {
  const auto n = static_cast<std::size_t>(most_points), side = static_cast<std::size_t>(cells + 4);
  FitBuffers b;
  for (float** a : {&b.mx, &b.my, &b.points.x, &b.points.y, &b.points.tx, &b.points.ty, &b.points.m[0], &b.points.m[1],
                    &b.points.m[2]})
    *a = workspace.take<float>(n);
  for (double** a : {&b.fx, &b.fy}) *a = workspace.take<double>(n);
  for (int** a : {&b.cell, &b.order}) *a = workspace.take<int>(n);
  for (int** a : {&b.counts, &b.first}) *a = workspace.take<int>(side * side + 1);
  b.sums = workspace.take<CellSums>(side * side);
  for (double** a : {&b.cell_m, &b.cell_mm}) *a = workspace.take<double>(side * side);
  b.fits = workspace.take<CellFit>(side * side);
  for (double** a : {&b.normal, &b.factor}) *a = workspace.take<double>(2 * side * side * (6 * side + 8));
  for (double** a : {&b.gradient, &b.delta, &b.trial, &b.zeros}) *a = workspace.take<double>(2 * side * side);
  b.control = control;
  return b;
}

}  // namespace

void refine_field(const Context& context, Workspace& workspace, const RidgeMap& fixed, const RidgeMap& moving,
                  const Transform& T_fixed_moving, const FieldOptions& options, double* control, FieldRefinement* out) {
  check_field(options);
  const Workspace::Frame scratch(workspace);
  const int most = most_points(moving), side = options.cells + 1;
  Call call{fixed, moving, &T_fixed_moving, options, take_buffers(workspace, most, options.cells, control),
            workspace.take<FitState>(1)};
  const Queue queue{context, call, most, side * side};
  const auto survey = [&](int step, bool first) {
    launch(context, 1, kSurveyThreads, survey_kernel, call, step, first);
  };
  bool shows = true;
  for (const RidgeMap* map : {&fixed, &moving}) {
    const View<const RidgePixel> finest = map->level[kRidgeLevels - 1];
    shows = shows && std::min(finest.width, finest.height) >= 2;
  }
  launch(context, 1, 1, begin_kernel, call, !shows);
  if (shows) {
    survey(kCoarsePx, true);
    queue.judge(Fold::even, Fold::odd, 1, false, options.min_gain_nats / 3 - kCoarseDoubt_nats);
    survey(kHalvesPx, false);
    queue.judge(Fold::even, Fold::odd, kAskedIterations, false, -1e300);
    queue.judge(Fold::odd, Fold::even, kAskedIterations, true, options.min_gain_nats);
    survey(kFinestPx, false);
    queue.choose(Fold::all);
    queue.fit(options.max_iterations);
    queue.ask();
  }
  launch(context, 1, kFitThreads, end_kernel, call, out);
}

}  // namespace fastretina::cuda
