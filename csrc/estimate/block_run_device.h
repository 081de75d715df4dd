// A Run (problem.h) on the device: one block an estimate. Pairs are spread over its threads, hypotheses over its warps;
// all threads follow the same path with the same numbers.
#pragma once

#include "core/device.h"
#include "estimate/search.h"

namespace fastretina::cuda {

constexpr int kRunThreads = 512;

struct BlockRun {
  estimating::Problem problem;
  estimating::Shortlist* lists = nullptr;  // kRunThreads / 32, for scan()

  // --- one pair, whatever the form ---
  static __device__ float residual(const estimating::PairArrays& a, const estimating::Hypothesis& h, int i) {
    using namespace estimating;
    float r = 0;
    if (h.form == Form::affine)
      residual_squared<Form::affine>(h.p, a.x[i], a.y[i], a.u[i], a.v[i], r);
    else if (h.form == Form::homography)
      residual_squared<Form::homography>(h.p, a.x[i], a.y[i], a.u[i], a.v[i], r);
    else
      residual_squared<Form::quadratic>(h.p, a.x[i], a.y[i], a.u[i], a.v[i], r);
    return r;
  }
  static __device__ int gain_at(const estimating::PairArrays& a, const estimating::Hypothesis& h, float slope, int i) {
    float gain;
    estimating::gain_of(residual(a, h, i), slope, a.weight[i], gain);
    return static_cast<int>(gain);
  }

  // --- by `threads` threads, of which this is `t` ---
  static __device__ int count_hits(const estimating::PairArrays& a, const estimating::Hypothesis& h, float squared,
                                   int begin, int end, int t, int threads) {
    int hits = 0;
    for (int i = begin + t; i < end; i += threads) hits += residual(a, h, i) < squared;
    return hits;
  }
  static __device__ long long sum_gain(const estimating::PairArrays& a, const estimating::Hypothesis& h, float squared,
                                       int t, int threads) {
    const float slope = estimating::kGainUnit / squared;
    long long gain = 0;
    for (int i = t; i < a.count; i += threads) gain += gain_at(a, h, slope, i);
    return gain;
  }

  [[gnu::noinline]] __device__ int hits(const estimating::PairArrays& a, const estimating::Hypothesis& h, float squared,
                                        int begin, int end) const {
    return block_sum<kRunThreads>(count_hits(a, h, squared, begin, end, static_cast<int>(threadIdx.x), kRunThreads));
  }
  [[gnu::noinline]] __device__ std::int64_t gain(const estimating::PairArrays& a, const estimating::Hypothesis& h,
                                                 float squared) const {
    return block_sum<kRunThreads>(sum_gain(a, h, squared, static_cast<int>(threadIdx.x), kRunThreads));
  }

  // One for all forms.
  struct Scratch {
    double term[estimating::kCheck][estimating::kMoments + 1], sum[estimating::kMoments + 1][8];
  };
  static __device__ Scratch& scratch() {
    __shared__ Scratch one;
    return one;
  }

  // The CPU twin's sums to the bit: eight of each, of every eighth pair; the pairs of a look at `enough` first write
  // what they add, then a thread a sum adds it up in their order.
  template <estimating::Form form>
  [[gnu::noinline]] static __device__ void moments_of(const estimating::PairArrays& a, const double* p, double squared,
                                                      double enough, estimating::Moments* out) {
    using namespace estimating;
    constexpr int kLanes = 8, kSums = (form == Form::affine ? 12 : kMoments) + 1;  // the last counts inliers
    static_assert(kSums * kLanes <= kRunThreads && kCheck <= kRunThreads);
    auto& term = scratch().term;
    auto& sum = scratch().sum;
    const int t = static_cast<int>(threadIdx.x), own = t / kLanes, lane = t % kLanes, padded = a.padded();
    const double inverse = 1.0 / squared;
    const auto total = [&](int k) {  // halves are added until one number is left
      const double* s = sum[k];
      return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    };
    __syncthreads();
    if (own < kSums) sum[own][lane] = 0;
    __syncthreads();
    for (int begin = 0; begin < padded && total(kSums - 1) < enough; begin += kCheck) {
      const int i = begin + t, count = min(padded - begin, kCheck);
      if (t < count) {
        double added[kSums] = {};
        add_pair<form>(p, inverse, static_cast<double>(a.x[i]), static_cast<double>(a.y[i]),
                       static_cast<double>(a.u[i]), static_cast<double>(a.v[i]), static_cast<double>(a.weight[i]),
                       added, added[kSums - 1]);
        for (int k = 0; k < kSums; ++k) term[t][k] = added[k];
      }
      __syncthreads();
      if (own < kSums)
        for (int k = lane; k < count; k += kLanes) sum[own][lane] += term[k][own];
      __syncthreads();
    }
    *out = {};
    for (int k = 0; k < kSums - 1; ++k) out->sum[k] = total(k);
    out->inliers = total(kSums - 1);
  }
  __device__ void moments(const estimating::PairArrays& a, const estimating::Model& model, double squared,
                          double enough, estimating::Moments* out) const {
    using estimating::Form;
    if (model.form == Form::affine)
      moments_of<Form::affine>(a, model.p, squared, enough, out);
    else if (model.form == Form::homography)
      moments_of<Form::homography>(a, model.p, squared, enough, out);
    else
      moments_of<Form::quadratic>(a, model.p, squared, enough, out);
  }

  template <class Visit>
  __device__ void each(int n, const Visit& visit) const {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kRunThreads) visit(i);
    __syncthreads();
  }

  template <int N, class Visit>
  __device__ void tally(int n, estimating::Tally<N>& tally, const Visit& visit) const {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kRunThreads) visit(i, tally);
    for (int k = 0; k < N; ++k) tally.sum[k] = block_sum<kRunThreads>(tally.sum[k]);
    __shared__ double low[2][kRunThreads / 32], high[2][kRunThreads / 32];
    __shared__ unsigned long long flags[2];
    const int t = static_cast<int>(threadIdx.x);
    __syncthreads();
    if (t < 2) flags[t] = 0;
    for (int c = 0; c < 2; ++c) {
      for (int mask = 16; mask > 0; mask /= 2) {
        const double l = __shfl_xor_sync(kAllLanes, tally.low[c], mask),
                     h = __shfl_xor_sync(kAllLanes, tally.high[c], mask);
        tally.low[c] = l < tally.low[c] ? l : tally.low[c];
        tally.high[c] = h > tally.high[c] ? h : tally.high[c];
      }
      low[c][t / 32] = tally.low[c], high[c][t / 32] = tally.high[c];
    }
    __syncthreads();
    for (int c = 0; c < 2; ++c) {
      if (tally.flags[c]) atomicOr(&flags[c], static_cast<unsigned long long>(tally.flags[c]));
      for (int warp = 0; warp < kRunThreads / 32; ++warp) {
        tally.low[c] = low[c][warp] < tally.low[c] ? low[c][warp] : tally.low[c];
        tally.high[c] = high[c][warp] > tally.high[c] ? high[c][warp] : tally.high[c];
      }
    }
    __syncthreads();
    tally.flags[0] = flags[0], tally.flags[1] = flags[1];
  }

  // A warp a hypothesis. Which warp looks at which does not matter: the order of candidates is total.
  __device__ estimating::Shortlist scan(const estimating::Search& s, const estimating::Draw& draw) const {
    using namespace estimating;
    const PairArrays& a = problem.scattered;
    const bool preview = a.count > 2 * kPreviewPairs;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    Shortlist own;
    for (int k = warp; k < draw.size; k += kRunThreads / 32) {
      const std::uint32_t index = draw.begin + static_cast<std::uint32_t>(k);
      Hypothesis h;
      if (!propose(problem.sampled, static_cast<std::uint32_t>(draw.pool), s.rules, index, h)) continue;
      const int window = preview_begin(index, a.count);
      if (preview &&
          warp_sum(count_hits(a, h, s.proposal_squared, window, window + kPreviewPairs, lane, 32)) < draw.preview_hits)
        continue;
      own.offer({static_cast<std::int64_t>(warp_sum(sum_gain(a, h, s.proposal_squared, lane, 32))), index});
    }
    __syncthreads();  // the lists of the last round have been read
    if (lane == 0) lists[warp] = own;
    __syncthreads();
    Shortlist all;
    for (int w = 0; w < kRunThreads / 32; ++w)
      for (const Candidate& c : lists[w].best) all.offer(c);
    return all;
  }
};

inline BlockRun take_run(Workspace& workspace, int capacity) {
  return {estimating::take_problem(workspace, capacity), workspace.take<estimating::Shortlist>(kRunThreads / 32)};
}

}  // namespace fastretina::cuda
