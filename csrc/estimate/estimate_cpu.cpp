// The room `estimate` on the CPU. The loop is search.h.
#include <algorithm>

#include "estimate/cpu_run.h"

namespace fastretina::cpu {

using namespace fastretina::estimating;

namespace {

void scan_chunk(const CpuRun& run, const Search& s, const Draw& draw, std::uint32_t begin, std::uint32_t end,
                Shortlist& list) {
  const PairArrays& pairs = run.problem.scattered;
  const bool preview = pairs.count > 2 * kPreviewPairs;
  const int window = preview_begin(begin, pairs.count);
  list = {};
  for (std::uint32_t index = begin; index < end; ++index) {
    Hypothesis h;
    if (!propose(run.problem.sampled, static_cast<std::uint32_t>(draw.pool), s.rules, index, h)) continue;
    if (preview && run.hits(pairs, h, s.proposal_squared, window, window + kPreviewPairs) < draw.preview_hits) continue;
    list.offer({run.gain(pairs, h, s.proposal_squared), index});
  }
}

}  // namespace

Shortlist CpuRun::scan(const Search& s, const Draw& draw) {
  context.parallel_for(draw.size, kChunk, [&](int begin, int end, int) {
    scan_chunk(*this, s, draw, draw.begin + static_cast<std::uint32_t>(begin),
               draw.begin + static_cast<std::uint32_t>(end), lists[begin / kChunk]);
  });
  Shortlist list;
  for (int i = 0; i < (draw.size + kChunk - 1) / kChunk; ++i)
    for (const Candidate& c : lists[i].best) list.offer(c);
  return list;
}

void estimate(const Context& context, Workspace& workspace, const PointPairs& pairs, const EstimateOptions& options,
              Estimate* out, std::uint8_t* inlier) {
  Workspace::Frame frame(workspace);
  if (inlier) std::fill_n(inlier, *pairs.count, std::uint8_t{0});
  CpuRun run{context, kernels(), take_problem(workspace, *pairs.count), workspace.take<Shortlist>(kLastRound / kChunk)};
  const Rounds rounds{workspace.take<int>(kRounds), workspace.take<int>(kRounds)};
  *out = estimating::estimate(run, pairs, options, rounds, inlier);
}

}  // namespace fastretina::cpu
