// The loop: draw a round of hypotheses, keep the best few, grow them, stop when missing a better one is unlikely.
#include <algorithm>
#include <cmath>
#include <new>

#include "estimate/estimate.h"
#include "estimate/problem.h"

namespace fastretina::cpu {
namespace {

using namespace fastretina::estimating;

constexpr int kFirstRound = 256, kLastRound = 8192;
constexpr int kRounds = 4096;     // at most; rounds grow so that this is never reached below 33 M hypotheses
constexpr int kKept = 3;          // candidates of a chunk, and of a round
constexpr double kEnough = 160;   // inliers that a step of local optimisation looks at
constexpr double kWide = 1.6;     // the last fits' biweight reaches this many thresholds
constexpr int kWeakSupport = 48;  // below this many inliers, near-records are grown too

struct Candidate {
  std::int64_t gain = -1;
  std::uint32_t index = 0;
};

// Gain descending, index ascending.
bool ahead(const Candidate& a, const Candidate& b) {
  return a.gain > b.gain || (a.gain == b.gain && a.index < b.index);
}

struct Shortlist {
  Candidate best[kKept];
  void offer(const Candidate& c) {
    if (!ahead(c, best[kKept - 1])) return;
    int i = kKept - 1;
    for (; i > 0 && ahead(c, best[i - 1]); --i) best[i] = best[i - 1];
    best[i] = c;
  }
};

struct Search {
  const Kernels& kernel;
  const Problem& problem;
  const EstimateOptions& options;
  SampleRules rules;
  float proposal_squared = 0;
  double squared = 0;
};

Search start_search(const Kernels& kernel, const Problem& problem, const EstimateOptions& options) {
  Search s{kernel, problem, options, {}, 0, options.threshold_px * options.threshold_px};
  const bool bends = options.kind >= TransformKind::homography;
  const double unit = problem.coordinates.scale * problem.coordinates.scale * (bends ? 0.25 : 1.0);
  s.rules.kind = options.kind;
  s.rules.allow_mirror = options.allow_mirror;
  s.rules.key = mix64(mix64(options.seed) ^ kSampleStream);
  // A sample must be large against the noise, unless all pairs lie close together.
  s.rules.min_area = static_cast<float>(std::min(64 * s.squared, 0.02 * problem.fixed_spread_sq));
  s.rules.min_ratio = static_cast<float>(options.min_scale * options.min_scale * unit);
  s.rules.max_ratio = static_cast<float>(options.max_scale * options.max_scale * unit * (bends ? 16.0 : 1.0));
  const float wide = proposal_threshold(options.kind);
  s.proposal_squared = wide * wide * static_cast<float>(s.squared);
  return s;
}

void scan(const Search& s, int pool, int preview_hits, std::uint32_t begin, std::uint32_t end, Shortlist& list) {
  const PairArrays& pairs = s.problem.scattered;
  const bool preview = pairs.count > 2 * kPreviewPairs;
  const int window = preview_begin(begin, pairs.count);
  list = {};
  for (std::uint32_t index = begin; index < end; ++index) {
    Hypothesis h;
    if (!propose(s.problem.sampled, static_cast<std::uint32_t>(pool), s.rules, index, h)) continue;
    if (preview && s.kernel.hits(pairs, h, s.proposal_squared, window, window + kPreviewPairs) < preview_hits) continue;
    list.offer({s.kernel.gain(pairs, h, s.proposal_squared), index});
  }
}

Plausible limits(const EstimateOptions& options) {
  return {options.min_scale, options.max_scale, options.allow_mirror};
}

FitRules fit_rules(const EstimateOptions& options) {
  const double noise = options.threshold_px * options.threshold_px / 9;
  // So weak that it only steadies fits to a handful of pairs: perspective of 0.5, or a bend of 50 px, per room unit.
  const double ridge = options.kind == TransformKind::homography ? noise * 4 : noise / 2500;
  return {options.kind, false, ridge};
}

// Local optimisation: from a proposal, met within a wide threshold, to the model of the asked kind.
bool grow(const Search& s, const Hypothesis& proposal, Model& model) {
  static constexpr double kNear[] = {1.5, 1.5, kWide, kWide};
  static constexpr double kFar[] = {4, 4, 3, 2, kWide, kWide};
  FitRules rules = fit_rules(s.options);
  const bool bends = s.options.kind >= TransformKind::homography;
  model = as_model(proposal);
  rules.mirrored = model.p[0] * model.p[4] - model.p[1] * model.p[3] < 0;
  Moments moments;
  if (bends && proposal.form == Form::affine) {
    FitRules flat = rules;
    flat.kind = TransformKind::affine;
    s.kernel.moments(s.problem.scattered, model, 16 * s.squared, kEnough, &moments);
    if (!fit_step(moments, flat, model)) return false;
  }
  promote(s.options.kind, model);
  const double* reach = bends ? kFar : kNear;
  const int steps = bends ? 6 : 4;
  for (int i = 0; i < steps; ++i) {
    s.kernel.moments(s.problem.scattered, model, reach[i] * reach[i] * s.squared, kEnough, &moments);
    if (!fit_step(moments, rules, model)) return false;
  }
  return plausible(s.problem, model, moments, s.squared, limits(s.options));
}

// The chance that no good sample was drawn so far, if the best model is the right one: over all rounds,
// (1 - share^m)^draws, with the share of its inliers in the pool of that round. A model explains its own sample, so
// that many inliers count for nothing.
class Missed {
 public:
  Missed(const Search& s, int sample)
      : search_(s), sample_(sample), grown_(s.options.kind >= TransformKind::homography) {}

  void add_round(int pool, int draws) {
    if (rounds_ < kRounds) pools_[rounds_] = pool, draws_[rounds_] = draws, ++rounds_;
    if (known_) sum_ += draws * log_miss(pool);
  }
  void set_model(const Model& model) {
    hypothesis_ = as_hypothesis(model);
    known_ = true;
    sum_ = 0;
    last_pool_ = -1;
    for (int i = 0; i < rounds_; ++i) sum_ += draws_[i] * log_miss(pools_[i]);
  }
  double log_chance() const { return known_ ? sum_ : 0; }
  // Draws from the last round's pool, in whole chunks, after which the chance would be exp(`log_wanted`).
  int draws_until(double log_wanted) const {
    constexpr int kMost = 1 << 24;
    if (!known_ || !(last_log_ < 0)) return kMost;
    const double chunks = std::ceil((sum_ - log_wanted) / -last_log_ / kChunk);
    return static_cast<int>(std::clamp(chunks, 1.0, static_cast<double>(kMost / kChunk))) * kChunk;
  }

 private:
  double log_miss(int pool) {
    if (pool == last_pool_) return last_log_;
    last_pool_ = pool;
    const int hits = search_.kernel.hits(search_.problem.ordered, hypothesis_, static_cast<float>(search_.squared), 0,
                                         pool + kPairPadding - 1 - (pool + kPairPadding - 1) % kPairPadding);
    const double share = std::max(0, hits - 2 * sample_) / static_cast<double>(pool);
    double chance = sample_ == 2 ? share * share : share * share * share;
    if (grown_) chance *= kGrows;
    return last_log_ = chance < 1 ? std::log1p(-chance) : -1e9;
  }

  static constexpr double kGrows = 0.5;  // share of good triples from which local optimisation reaches the model
  const Search& search_;
  int sample_;
  bool grown_, known_ = false;
  int rounds_ = 0;
  int pools_[kRounds], draws_[kRounds];
  Hypothesis hypothesis_;
  double sum_ = 0, last_log_ = 0;
  int last_pool_ = -1;
};

struct Best {
  Model model;
  std::int64_t proposal_gain = 0, gain = 0;
  int hits = 0;
};

// Further fits while they find clearly more support: a model grown from few pairs may still be far from its best.
void settle(const Search& s, Best& best) {
  constexpr int kSteps = 8;
  FitRules rules = fit_rules(s.options);
  rules.mirrored = best.model.p[0] * best.model.p[4] - best.model.p[1] * best.model.p[3] < 0;
  for (int i = 0; i < kSteps; ++i) {
    Model model = best.model;
    Moments moments;
    s.kernel.moments(s.problem.scattered, model, kWide * kWide * s.squared, 2 * kEnough, &moments);
    if (!fit_step(moments, rules, model) || !plausible(s.problem, model, moments, s.squared, limits(s.options))) return;
    const std::int64_t gain = s.kernel.gain(s.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared));
    const bool clearly = gain > best.gain + best.gain / 16;
    if (gain > best.gain) best.model = model, best.gain = gain;
    if (!clearly) return;
  }
}

// Grows the candidates that are worth it; true if one beats `best`.
bool grow_candidates(const Search& s, const Shortlist& list, int pool, Best& best) {
  bool improved = false;
  for (const Candidate& c : list.best) {
    const bool record = c.gain > best.proposal_gain;
    const bool near_record = best.hits < kWeakSupport && 10 * c.gain >= 7 * best.proposal_gain;
    if (c.gain <= 0 || !(record || near_record)) continue;
    best.proposal_gain = std::max(best.proposal_gain, c.gain);
    Hypothesis h;
    propose(s.problem.sampled, static_cast<std::uint32_t>(pool), s.rules, c.index, h);
    Model model;
    if (!grow(s, h, model)) continue;
    const std::int64_t gain = s.kernel.gain(s.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared));
    if (gain <= best.gain) continue;
    best.model = model, best.gain = gain, improved = true;
    settle(s, best);
    // Of the model as grown: settle() may have found a better one, but the count only decides whether near-records are
    // tried, too.
    best.hits = s.kernel.hits(s.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared), 0,
                              s.problem.scattered.padded());
  }
  return improved;
}

Best search_rounds(const Context& context, Workspace& workspace, const Search& s, int* iterations) {
  const int sample = proposal_pairs(s.options.kind), count = s.problem.count;
  Shortlist* lists = workspace.take<Shortlist>(kLastRound / kChunk);
  Missed& missed = *new (workspace.take<Missed>(1)) Missed(s, sample);
  const double enough = std::log(1 - std::min(s.options.confidence, 1 - 1e-12));
  Best best;
  int drawn = 0, round = kFirstRound;
  while (drawn < s.options.max_iterations) {
    const int size = std::min({round, missed.draws_until(enough), s.options.max_iterations - drawn});
    const int pool = s.options.sorted ? pool_size(count, sample, drawn) : count;
    const int preview = preview_hits(best.proposal_gain, count);
    context.parallel_for(size, kChunk, [&](int begin, int end, int) {
      scan(s, pool, preview, static_cast<std::uint32_t>(drawn + begin), static_cast<std::uint32_t>(drawn + end),
           lists[begin / kChunk]);
    });
    Shortlist list;
    for (int i = 0; i < (size + kChunk - 1) / kChunk; ++i)
      for (const Candidate& c : lists[i].best) list.offer(c);
    const bool improved = grow_candidates(s, list, pool, best);
    drawn += size;
    missed.add_round(pool, size);
    if (improved) missed.set_model(best.model);
    if (missed.log_chance() <= enough) break;
    if (drawn >= 2 * kFirstRound) round = std::min(2 * round, kLastRound);
  }
  *iterations = drawn;
  return best;
}

}  // namespace

void estimate(const Context& context, Workspace& workspace, const PointPairs& pairs, const EstimateOptions& options,
              Estimate* out, std::uint8_t* inlier) {
  Workspace::Frame frame(workspace);
  *out = {};
  const int total = *pairs.count;
  if (inlier) std::fill_n(inlier, total, std::uint8_t{0});
  if (total < minimal_pairs(options.kind)) return;
  const Problem problem = prepare(workspace, pairs);
  const Search s = start_search(kernels(), problem, options);
  Best best = search_rounds(context, workspace, s, &out->iterations);
  if (best.gain <= 0) return;

  FitRules rules = fit_rules(options);
  rules.mirrored = best.model.p[0] * best.model.p[4] - best.model.p[1] * best.model.p[3] < 0;
  Model polished = best.model;
  const Moments moments = polish(s.kernel, problem, rules, kWide * kWide * s.squared, 5, polished, nullptr);
  if (plausible(problem, polished, moments, s.squared, limits(options))) best.model = polished;
  Transform transform;
  if (!to_transform(best.model, options.kind, problem.coordinates, transform)) return;
  report(pairs, transform, options.threshold_px, out, inlier);
  out->found = out->inliers >= minimal_pairs(options.kind);
  if (out->found) out->T_fixed_moving = transform;
}

}  // namespace fastretina::cpu
