// A Run (problem.h) on the CPU: pairs one after the other, hypotheses on all threads.
#pragma once

#include "core/context.h"
#include "estimate/search.h"

namespace fastretina::cpu {

struct CpuRun {
  const Context& context;
  const estimating::Kernels& kernel;
  estimating::Problem problem;
  estimating::Shortlist* lists = nullptr;  // kLastRound / kChunk, for scan()

  int hits(const estimating::PairArrays& pairs, const estimating::Hypothesis& h, float squared, int begin,
           int end) const {
    return kernel.hits(pairs, h, squared, begin, end);
  }
  std::int64_t gain(const estimating::PairArrays& pairs, const estimating::Hypothesis& h, float squared) const {
    return kernel.gain(pairs, h, squared);
  }
  void moments(const estimating::PairArrays& pairs, const estimating::Model& model, double squared, double enough,
               estimating::Moments* out) const {
    kernel.moments(pairs, model, squared, enough, out);
  }
  template <class Visit>
  void each(int n, Visit&& visit) const {
    for (int i = 0; i < n; ++i) visit(i);
  }
  template <int N, class Visit>
  void tally(int n, estimating::Tally<N>& tally, Visit&& visit) const {
    for (int i = 0; i < n; ++i) visit(i, tally);
  }
  estimating::Shortlist scan(const estimating::Search& search, const estimating::Draw& draw);
};

}  // namespace fastretina::cpu
