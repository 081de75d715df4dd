// The loop of estimate(): draw a round of hypotheses, keep the best few, grow them, stop when missing a better one is
// unlikely. For both sides: see problem.h for what a Run is.
#pragma once

#include "estimate/problem.h"

namespace fastretina::estimating {

constexpr int kFirstRound = 256, kLastRound = 8192;
constexpr int kRounds = 4096;     // at most remembered; rounds grow so that this is never reached below 33 M hypotheses
constexpr int kKept = 3;          // candidates of a chunk, and of a round
constexpr double kEnough = 160;   // inliers that a step of local optimisation looks at
constexpr double kWide = 1.6;     // the last fits' biweight reaches this many thresholds
constexpr int kWeakSupport = 48;  // below this many inliers, near-records are grown too

struct Candidate {
  std::int64_t gain = -1;
  std::uint32_t index = 0;
};

// Gain descending, index ascending.
FR_HD bool ahead(const Candidate& a, const Candidate& b) {
  return a.gain > b.gain || (a.gain == b.gain && a.index < b.index);
}

// The best few.
struct Shortlist {
  Candidate best[kKept];
  FR_HD void offer(const Candidate& c) {
    if (!ahead(c, best[kKept - 1])) return;
    int i = kKept - 1;
    for (; i > 0 && ahead(c, best[i - 1]); --i) best[i] = best[i - 1];
    best[i] = c;
  }
};

struct Search {
  EstimateOptions options;
  SampleRules rules;
  float proposal_squared = 0;
  double squared = 0;
};

FR_HD Search start_search(const Problem& problem, const EstimateOptions& options) {
  Search s;
  s.options = options;
  s.squared = options.threshold_px * options.threshold_px;
  const bool bends = options.kind >= TransformKind::homography;
  const double unit = problem.coordinates.scale * problem.coordinates.scale * (bends ? 0.25 : 1.0);
  s.rules.kind = options.kind;
  s.rules.allow_mirror = options.allow_mirror;
  s.rules.key = mix64(mix64(options.seed) ^ kSampleStream);
  // A sample must be large against the noise, unless all pairs lie close together.
  s.rules.min_area = static_cast<float>(std::fmin(64 * s.squared, 0.02 * problem.fixed_spread_sq));
  s.rules.min_ratio = static_cast<float>(options.min_scale * options.min_scale * unit);
  s.rules.max_ratio = static_cast<float>(options.max_scale * options.max_scale * unit * (bends ? 16.0 : 1.0));
  const float wide = proposal_threshold(options.kind);
  s.proposal_squared = wide * wide * static_cast<float>(s.squared);
  return s;
}

FR_HD Plausible limits(const EstimateOptions& options) {
  return {options.min_scale, options.max_scale, options.allow_mirror};
}

FR_HD FitRules fit_rules(const EstimateOptions& options) {
  const double noise = options.threshold_px * options.threshold_px / 9;
  // So weak that it only steadies fits to a handful of pairs: perspective of 0.5, or a bend of 50 px, per room unit.
  const double ridge = options.kind == TransformKind::homography ? noise * 4 : noise / 2500;
  return {options.kind, false, ridge};
}

// Local optimisation: from a proposal, met within a wide threshold, to the model of the asked kind.
template <class Run>
FR_SIDE bool grow(Run& run, const Search& s, const Hypothesis& proposal, Model& model) {
  constexpr double kNear[] = {1.5, 1.5, kWide, kWide};
  constexpr double kFar[] = {4, 4, 3, 2, kWide, kWide};
  FitRules rules = fit_rules(s.options);
  const bool bends = s.options.kind >= TransformKind::homography;
  model = as_model(proposal);
  rules.mirrored = model.p[0] * model.p[4] - model.p[1] * model.p[3] < 0;
  Moments moments;
  if (bends && proposal.form == Form::affine) {
    FitRules flat = rules;
    flat.kind = TransformKind::affine;
    run.moments(run.problem.scattered, model, 16 * s.squared, kEnough, &moments);
    if (!fit_step(moments, flat, model)) return false;
  }
  promote(s.options.kind, model);
  const int steps = bends ? 6 : 4;
  for (int i = 0; i < steps; ++i) {
    const double reach = bends ? kFar[i] : kNear[i];
    run.moments(run.problem.scattered, model, reach * reach * s.squared, kEnough, &moments);
    if (!fit_step(moments, rules, model)) return false;
  }
  return plausible(run, model, moments, s.squared, limits(s.options));
}

// The chance that no good sample was drawn so far, if the best model is the right one: over all rounds,
// (1 - share^m)^draws, with the share of its inliers in the pool of that round. A model explains its own sample, so
// that many inliers count for nothing.
// Memory for the rounds so far: their pools and draws.
struct Rounds {
  int *pools = nullptr, *draws = nullptr;  // kRounds each
};

template <class Run>
class Missed {
 public:
  FR_SIDE Missed(Run& run, const Search& s, const Rounds& rounds)
      : run_(run),
        squared_(static_cast<float>(s.squared)),
        sample_(proposal_pairs(s.options.kind)),
        grown_(s.options.kind >= TransformKind::homography),
        of_(rounds) {}

  FR_SIDE void add_round(int pool, int draws) {
    if (rounds_ < kRounds) of_.pools[rounds_] = pool, of_.draws[rounds_] = draws, ++rounds_;
    if (known_) sum_ += draws * log_miss(pool);
  }
  FR_SIDE void set_model(const Model& model) {
    hypothesis_ = as_hypothesis(model);
    known_ = true;
    sum_ = 0;
    last_pool_ = -1;
    for (int i = 0; i < rounds_; ++i) sum_ += of_.draws[i] * log_miss(of_.pools[i]);
  }
  FR_SIDE double log_chance() const { return known_ ? sum_ : 0; }
  // Draws from the last round's pool, in whole chunks, after which the chance would be exp(`log_wanted`).
  FR_SIDE int draws_until(double log_wanted) const {
    constexpr int kMost = 1 << 24;
    if (!known_ || !(last_log_ < 0)) return kMost;
    const double chunks = std::ceil((sum_ - log_wanted) / -last_log_ / kChunk), most = kMost / kChunk;
    return static_cast<int>(chunks < 1 ? 1 : chunks > most ? most : chunks) * kChunk;
  }

 private:
  FR_SIDE double log_miss(int pool) {
    if (pool == last_pool_) return last_log_;
    last_pool_ = pool;
    const int hits = run_.hits(run_.problem.ordered, hypothesis_, squared_, 0,
                               pool + kPairPadding - 1 - (pool + kPairPadding - 1) % kPairPadding);
    const int others = hits > 2 * sample_ ? hits - 2 * sample_ : 0;
    const double share = others / static_cast<double>(pool);
    double chance = sample_ == 2 ? share * share : share * share * share;
    if (grown_) chance *= kGrows;
    return last_log_ = chance < 1 ? std::log1p(-chance) : -1e9;
  }

  static constexpr double kGrows = 0.5;  // share of good triples from which local optimisation reaches the model
  Run& run_;
  float squared_;
  int sample_;
  bool grown_, known_ = false;
  Rounds of_;
  int rounds_ = 0;
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
template <class Run>
FR_SIDE void settle(Run& run, const Search& s, Best& best) {
  constexpr int kSteps = 8;
  FitRules rules = fit_rules(s.options);
  rules.mirrored = best.model.p[0] * best.model.p[4] - best.model.p[1] * best.model.p[3] < 0;
  for (int i = 0; i < kSteps; ++i) {
    Model model = best.model;
    Moments moments;
    run.moments(run.problem.scattered, model, kWide * kWide * s.squared, 2 * kEnough, &moments);
    if (!fit_step(moments, rules, model) || !plausible(run, model, moments, s.squared, limits(s.options))) return;
    const std::int64_t gain = run.gain(run.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared));
    const bool clearly = gain > best.gain + best.gain / 16;
    if (gain > best.gain) best.model = model, best.gain = gain;
    if (!clearly) return;
  }
}

// Grows the candidates that are worth it; true if one beats `best`.
template <class Run>
FR_SIDE bool grow_candidates(Run& run, const Search& s, const Shortlist& list, int pool, Best& best) {
  bool improved = false;
  for (const Candidate& c : list.best) {
    const bool record = c.gain > best.proposal_gain;
    const bool near_record = best.hits < kWeakSupport && 10 * c.gain >= 7 * best.proposal_gain;
    if (c.gain <= 0 || !(record || near_record)) continue;
    best.proposal_gain = c.gain > best.proposal_gain ? c.gain : best.proposal_gain;
    Hypothesis h;
    propose(run.problem.sampled, static_cast<std::uint32_t>(pool), s.rules, c.index, h);
    Model model;
    if (!grow(run, s, h, model)) continue;
    const std::int64_t gain = run.gain(run.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared));
    if (gain <= best.gain) continue;
    best.model = model, best.gain = gain, improved = true;
    settle(run, s, best);
    // Of the model as grown: settle() may have found a better one, but the count only decides whether near-records are
    // tried, too.
    best.hits = run.hits(run.problem.scattered, as_hypothesis(model), static_cast<float>(s.squared), 0,
                         run.problem.scattered.padded());
  }
  return improved;
}

// What a worker scans: hypotheses [begin, begin + size) drawn from the first `pool` pairs; those that meet fewer than
// preview_hits of the preview are dropped.
struct Draw {
  int pool = 0, preview_hits = 0;
  std::uint32_t begin = 0;
  int size = 0;
};

template <class Run>
FR_SIDE Best search_rounds(Run& run, const Search& s, const Rounds& rounds, int* iterations) {
  const int sample = proposal_pairs(s.options.kind), count = run.problem.count, most = s.options.max_iterations;
  Missed<Run> missed(run, s, rounds);
  const double enough = std::log(1 - std::fmin(s.options.confidence, 1 - 1e-12));
  Best best;
  int drawn = 0, round = kFirstRound;
  while (drawn < most) {
    int size = missed.draws_until(enough);
    size = size < round ? size : round;
    size = size < most - drawn ? size : most - drawn;
    const int pool = s.options.sorted ? pool_size(count, sample, drawn) : count;
    const Draw draw{pool, preview_hits(best.proposal_gain, count), static_cast<std::uint32_t>(drawn), size};
    const bool improved = grow_candidates(run, s, run.scan(s, draw), pool, best);
    drawn += size;
    missed.add_round(pool, size);
    if (improved) missed.set_model(best.model);
    if (missed.log_chance() <= enough) break;
    if (drawn >= 2 * kFirstRound) round = 2 * round < kLastRound ? 2 * round : kLastRound;
  }
  *iterations = drawn;
  return best;
}

// The whole of estimate(). Every thread of a Run gets the answer.
template <class Run>
FR_SIDE Estimate estimate(Run& run, const PointPairs& pairs, const EstimateOptions& options, const Rounds& rounds,
                          std::uint8_t* inlier) {
  Estimate out;
  if (*pairs.count < minimal_pairs(options.kind)) return out;
  prepare(run, pairs, run.problem);
  const Search s = start_search(run.problem, options);
  Best best = search_rounds(run, s, rounds, &out.iterations);
  if (best.gain <= 0) return out;

  FitRules rules = fit_rules(options);
  rules.mirrored = best.model.p[0] * best.model.p[4] - best.model.p[1] * best.model.p[3] < 0;
  Model polished = best.model;
  const Moments moments = polish(run, rules, kWide * kWide * s.squared, 5, polished, nullptr);
  if (plausible(run, polished, moments, s.squared, limits(options))) best.model = polished;
  Transform transform;
  if (!to_transform(best.model, options.kind, run.problem.coordinates, transform)) return out;
  report(run, pairs, transform, options.threshold_px, out, inlier);
  out.found = out.inliers >= minimal_pairs(options.kind);
  if (out.found) out.T_fixed_moving = transform;
  return out;
}

}  // namespace fastretina::estimating
