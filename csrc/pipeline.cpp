#include "pipeline.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "pipeline_math.h"

namespace fastretina {
namespace {

constexpr double kFiner = 4.0 / 3.0;
constexpr double kMostLevel = 1.5;        // a square turned by 45 degrees needs 1.41
constexpr double kWorthwhile = 1.1;       // times finer: an image as it is gains nothing from less
constexpr int kStarts = 2;                // of a rung: consensuses of its matches
constexpr double kScalesAnOctave = 4;     // in which an image is enlarged: an image that is kept meets few of them
constexpr double kMostEnlarged = 3;       // times the working size: beyond, a larger field costs more than it tells

// Further attempts, cheap and likely ones first.
//   fields   devices differ by up to x3 in what they show (30 to 100 degrees, crops); which of the two shows less is not
//            known. The side with the larger field keeps its scale, the other one shrinks.
//   finer    the same at a larger working size, the larger the smaller the field: a small overlap has the more key
//            points, a crop keeps its resolution
//   turns    the network is trained for relative rotations up to 50 degrees: steps of 45 cover the circle with a margin.
//            A turned frame may have grown black corners: MOVING is shown as large as its field of view says (`levelled`)
std::vector<Rung> ladder() {
  constexpr double kHalfField = 1.0 / 1.7, kThirdField = 1.0 / 2.9;
  std::vector<Rung> rungs;
  const auto add = [&](double scale, double field) {
    rungs.push_back({{scale, 0, false}, {scale * field, 0, false}});
    if (field != 1) rungs.push_back({{scale * field, 0, false}, {scale, 0, false}});
  };
  for (const double field : {1.0, kHalfField, kThirdField}) add(1, field);
  for (const double field : {1.0, kHalfField}) add(kFiner, field);
  add(kSourcePerWorkingSize, kThirdField);
  for (const bool mirrored : {false, true})
    for (int eighths = mirrored ? 0 : 1; eighths < 8; ++eighths) rungs.push_back({{}, {1, eighths, mirrored}, true});
  return rungs;
}

// Matches -> point pairs, in the order of the matches (best first).
PointPairs pair_up(const Matches& matches, const Keypoints& fixed, const Keypoints& moving, Workspace& workspace) {
  float* fixed_xy = workspace.take<float>(2 * matches.capacity);
  float* moving_xy = workspace.take<float>(2 * matches.capacity);
  for (int i = 0; i < *matches.count; ++i) {
    std::copy_n(fixed.xy + 2 * matches.fixed[i], 2, fixed_xy + 2 * i);
    std::copy_n(moving.xy + 2 * matches.moving[i], 2, moving_xy + 2 * i);
  }
  return {fixed_xy, moving_xy, nullptr, matches.count, matches.capacity};
}

// Those of the pairs that a start leaves unexplained, in their order.
PointPairs unexplained(const PointPairs& pairs, const std::uint8_t* inlier, Workspace& workspace) {
  float* fixed_xy = workspace.take<float>(2 * pairs.capacity);
  float* moving_xy = workspace.take<float>(2 * pairs.capacity);
  int* count = workspace.take<int>(1);
  *count = 0;
  for (int i = 0; i < *pairs.count; ++i) {
    if (inlier[i]) continue;
    std::copy_n(pairs.fixed_xy + 2 * i, 2, fixed_xy + 2 * *count);
    std::copy_n(pairs.moving_xy + 2 * i, 2, moving_xy + 2 * *count);
    ++*count;
  }
  return {fixed_xy, moving_xy, nullptr, count, pairs.capacity};
}

Matches take_matches(int capacity, Workspace& workspace) {
  Matches matches;
  matches.fixed = workspace.take<int>(capacity);
  matches.moving = workspace.take<int>(capacity);
  matches.score = workspace.take<float>(capacity);
  matches.count = workspace.take<int>(1);
  matches.capacity = capacity;
  *matches.count = 0;
  return matches;
}

// 0 where there is none.
double mean_where(const float* value, const std::uint8_t* flag, int n) {
  double sum = 0;
  int count = 0;
  for (int i = 0; i < n; ++i)
    if (flag[i]) sum += static_cast<double>(value[i]), ++count;
  return count > 0 ? sum / count : 0;
}

Frames frames_of(const Features& fixed, const Features& moving) {
  return {fixed.T_network_input, moving.T_network_input};
}

// How much finer than at the working size an image could be shown before pixels are made up.
double headroom(Size source, int working_size) {
  return static_cast<double>(std::max(source.width, source.height)) / working_size;
}

// Do both show FIXED as large beside MOVING?
bool alike(const Rung& a, const Rung& b) {
  return std::abs(a.fixed.scale * b.moving.scale / (a.moving.scale * b.fixed.scale) - 1) < 1e-6;
}

}  // namespace

bool chooses_model(TransformChoice choice) {
  return choice == TransformChoice::automatic || choice == TransformChoice::dense;
}

Options resolved(Options options, int multiple) {
  require(options.ladder.max_rungs >= 1, "max_rungs", std::to_string(options.ladder.max_rungs), "1 or more");
  options.features.image.multiple = multiple;
  options.upgrade.max_kind = chooses_model(options.model.choice)
                                 ? std::min(options.upgrade.max_kind, TransformKind::homography)
                                 : static_cast<TransformKind>(options.model.choice);
  return options;
}

Rung finest(Size fixed_source, Size moving_source, const Rung& shown, double magnification, int working_size) {
  const bool as_they_are = shown.fixed == Pose{} && shown.moving == Pose{};
  const double finer = std::min({headroom(fixed_source, working_size), headroom(moving_source, working_size),
                                 as_they_are ? kFiner : kSourcePerWorkingSize});
  const double scale = std::max(finer < kWorthwhile ? 1 : finer, std::min(shown.fixed.scale, shown.moving.scale));
  const double wider = magnification * shown.moving.scale / shown.fixed.scale;
  const double octaves = std::round(kScalesAnOctave * std::log2(wider)) / kScalesAnOctave;
  const double ratio = std::exp2(std::abs(octaves)), most = std::min(kMostEnlarged, double{kLargestSidePx} / working_size);
  const Pose smaller{std::clamp(most / ratio, 1.0, scale), 0, false}, larger{std::min(scale * ratio, most), 0, false};
  return octaves < 0 ? Rung{larger, smaller} : Rung{smaller, larger};
}

bool ends_climb(const Registration& so_far, const LadderOptions& options) {
  const Quality& best = so_far.best.quality;
  return so_far.attempts == options.max_rungs || best.confidence >= options.strong_confidence ||
         best.status == Status::no_content;
}

Session::Session(std::shared_ptr<Network> network, const Options& options, int threads, const Backend& backend)
    : network_(std::move(network)),
      options_(resolved(options, network_->multiple())),
      backend_(backend),
      context_(threads),
      rungs_(ladder()) {
  for (Candidate* candidate : {&candidate_, &result_.best})
    candidate->control.resize(static_cast<std::size_t>(field_capacity(options.field)));
}

void Session::prepare(const Image& image, Prepared& out) {
  if (out.poses_.empty()) out.poses_.push_back(std::make_unique<Features>());
  out.used_ = 1;
  out.timings = {};
  {
    const Stopwatch stopwatch(out.timings.image);
    out.source_.take(image, options_.features.image, backend_, context_, workspace_);
  }
  out.poses_.front()->extract(out.source_, {}, network_.get(), options_.features, backend_, context_, workspace_, out.timings);
}

// Is enough left of an image at this scale?
bool Session::shows_enough(const Pose& pose) const {
  return pose == Pose{} || scaled_working_size(options_.features.image, pose) >= kSmallestSidePx;
}

const Features& Session::in_pose(Prepared& image, const Pose& pose, bool described) {
  for (std::size_t i = 0; i < image.used_; ++i)
    if (image.poses_[i]->pose == pose && (image.poses_[i]->described || !described)) return *image.poses_[i];
  if (image.used_ == image.poses_.size()) image.poses_.push_back(std::make_unique<Features>());
  Features& features = *image.poses_[image.used_];
  features.extract(image.source_, pose, described ? network_.get() : nullptr, options_.features, backend_, context_,
                   workspace_, timings_);
  ++image.used_;
  return features;
}

const Registration& Session::register_pair(Prepared& fixed, const Image& moving) {
  prepare(moving, moving_);
  return register_pair(fixed, moving_);
}

// The ladder: attempts in order until one is strong; the best one is the answer.
const Registration& Session::register_pair(Prepared& fixed, Prepared& moving) {
  timings_ = {};
  result_.attempts = 0;
  const double fields = fixed.first().field / std::max(moving.first().field, 1e-6);
  const double level = std::clamp(std::sqrt(fields), 1 / kMostLevel, kMostLevel);
  for (Rung rung : rungs_) {
    if (rung.levelled) rung.moving.scale *= level;
    if (!shows_enough(rung.fixed) || !shows_enough(rung.moving)) continue;
    ++result_.attempts;
    if (attempt(in_pose(fixed, rung.fixed), in_pose(moving, rung.moving))) break;
  }
  if (result_.best.found) {
    const Rung last = finest_of(fixed, moving, result_.best);
    polish(fixed, moving, last, result_.best);
    deform(fixed, moving, last, result_.best);
  }
  result_.timings = timings_;
  return result_;
}

Rung Session::finest_of(Prepared& fixed, Prepared& moving, const Candidate& best) {
  const auto size = [](const Prepared& image) { return Size{image.source_.gray.width, image.source_.gray.height}; };
  const Frames seen = frames_of(in_pose(fixed, best.fixed_pose), in_pose(moving, best.moving_pose));
  return finest(size(fixed), size(moving), {best.fixed_pose, best.moving_pose}, magnification(best, seen),
                options_.features.image.working_size);
}

// The vessels are aligned once more at the finest scale: in full where the two scales change against one another, else
// from where the rung left them.
void Session::polish(Prepared& fixed, Prepared& moving, const Rung& last, Candidate& best) {
  if (best.quality.status != Status::ok) return;
  const Rung shown{best.fixed_pose, best.moving_pose};
  if (last == shown) return;
  const Features& fine_fixed = in_pose(fixed, last.fixed, false);
  const Features& fine_moving = in_pose(moving, last.moving, false);
  const Features &seen_fixed = in_pose(fixed, best.fixed_pose), &seen_moving = in_pose(moving, best.moving_pose);

  const Stopwatch stopwatch(timings_.refine);
  const Frames fine = frames_of(fine_fixed, fine_moving), seen = frames_of(seen_fixed, seen_moving);
  Transform start;
  if (!fine.to_network(best.T_fixed_moving, start)) return;
  const bool near = alike(last, shown);
  Refinement refined;
  backend_.refine(context_, workspace_, fine_fixed.ridges, fine_moving.ridges, start,
                  near ? pipeline_math::polish_options(options_.refine) : options_.refine, &refined);
  Polished polished;
  if (!fine.to_input(refined.T_fixed_moving, polished.T_input) ||
      !seen.to_network(polished.T_input, polished.T_network))
    return;
  backend_.ridge_correlation(context_, workspace_, seen_fixed.ridges, seen_moving.ridges, {&polished.T_network, 1},
                             kRidgeRowStep, &polished.agreement);
  take_polished(polished, options_.quality, best);
}

// One rung: match; then estimate -> refine -> quality from the largest consensus of the matches, and, where that does not
// end the climb, from the largest one among those it leaves unexplained. Does the rung end it?
bool Session::attempt(const Features& fixed, const Features& moving) {
  const Workspace::Frame frame(workspace_);
  const Matches matches = take_matches(fixed.keypoints.capacity, workspace_);
  PointPairs pairs;
  {
    const Stopwatch stopwatch(timings_.match);
    backend_.match(context_, workspace_, fixed.descriptors, moving.descriptors, options_.match, matches);
    pairs = pair_up(matches, fixed.keypoints, moving.keypoints, workspace_);
  }
  std::uint8_t* inlier = workspace_.take<std::uint8_t>(pairs.capacity);
  for (int start = 0; start < kStarts; ++start) {
    std::fill_n(inlier, pairs.capacity, std::uint8_t{0});
    Estimate estimate;
    {
      const Stopwatch stopwatch(timings_.estimate);
      backend_.estimate(context_, workspace_, pairs, options_.estimate, &estimate, inlier);
    }
    const PointPairs rest = unexplained(pairs, inlier, workspace_);
    conclude(fixed, moving, estimate, matches, pairs, inlier, candidate_);
    const bool first = result_.attempts == 1 && start == 0;
    if (first || candidate_.quality.confidence > result_.best.quality.confidence) std::swap(result_.best, candidate_);
    if (ends_climb(result_, options_.ladder)) return true;
    if (!estimate.found) break;
    pairs = rest;
  }
  return false;
}

// From one start to its quality.
void Session::conclude(const Features& fixed, const Features& moving, const Estimate& start, const Matches& matches,
                       PointPairs pairs, std::uint8_t* inlier, Candidate& out) {
  out.rung = result_.attempts - 1;
  out.fixed_pose = fixed.pose;
  out.moving_pose = moving.pose;
  QualityInputs& measured = out.measured = {};
  measured.fixed = fixed.content;
  measured.moving = moving.content;
  measured.contrast_fixed = fixed.contrast;
  measured.contrast_moving = moving.contrast;
  measured.keypoints_fixed = *fixed.keypoints.count;
  measured.keypoints_moving = *moving.keypoints.count;
  measured.attempts = result_.attempts;
  const Estimate estimate = start.found ? upgrade(fixed, moving, start.T_fixed_moving, matches, pairs, inlier) : start;
  measured.found = estimate.found;
  measured.matches = *pairs.count;
  if (estimate.found) {
    const Stopwatch stopwatch(timings_.refine);
    measured.T_fixed_moving = align(fixed, moving, estimate.T_fixed_moving);
    measured.inliers = estimate.inliers;
    measured.inlier_rms_px = estimate.rms_px;
    measured.coverage = estimate.coverage;
    RidgeCorrelation agreement;
    backend_.ridge_correlation(context_, workspace_, fixed.ridges, moving.ridges, {&measured.T_fixed_moving, 1},
                               kRidgeRowStep, &agreement);
    measured.ridge_correlation = agreement.score, measured.overlap_px = agreement.overlap_px;
    measured.peak_to_sidelobe = peak_to_sidelobe(fixed, moving, measured.T_fixed_moving, measured.ridge_correlation);
    measured.inlier_similarity = mean_where(matches.score, inlier, *matches.count);
  }
  const Stopwatch stopwatch(timings_.quality);
  judge({pairs, matches.score, inlier}, frames_of(fixed, moving), options_.quality, out);
}

double Session::peak_to_sidelobe(const Features& fixed, const Features& moving, const Transform& T, double peak) {
  static const pipeline_math::Sidelobes sidelobes;
  constexpr int n = pipeline_math::Sidelobes::kCount;
  Transform shifted[n];
  RidgeCorrelation aside[n];
  for (int i = 0; i < n; ++i) sidelobes.shift(T, i, shifted[i]);
  backend_.ridge_correlation(context_, workspace_, fixed.ridges, moving.ridges, {shifted, n},
                             pipeline_math::kSidelobeRowStep, aside);
  return pipeline_math::peak_to_sidelobe(peak, aside);
}

// From a similarity: matches again under its guidance; then a higher model where it explains clearly more.
Estimate Session::upgrade(const Features& fixed, const Features& moving, const Transform& start, const Matches& matches,
                          PointPairs& pairs, std::uint8_t* inlier) {
  const Stopwatch stopwatch(timings_.estimate);
  backend_.match_guided(context_, workspace_, fixed.descriptors, moving.descriptors, fixed.keypoints, moving.keypoints,
                        start, options_.guided, matches);
  pairs = pair_up(matches, fixed.keypoints, moving.keypoints, workspace_);
  Estimate upgraded;
  backend_.upgrade(context_, workspace_, pairs, start, fixed.content, moving.content, options_.upgrade,
                   &upgraded, inlier);
  return upgraded;
}

// Once, on the answer: a smooth local field, where the vessels clearly ask for one.
void Session::deform(Prepared& fixed, Prepared& moving, const Rung& last, Candidate& best) {
  if (!pipeline_math::wants_field(best, options_.model)) return;
  const Features &fine_fixed = in_pose(fixed, last.fixed, false), &fine_moving = in_pose(moving, last.moving, false);
  const Stopwatch stopwatch(timings_.refine);
  Deformed deformed{frames_of(fine_fixed, fine_moving), fine_fixed.content, fine_moving.content, {}};
  Deformation& T = deformed.T_network;
  if (!deformed.frames.to_network(best.T_fixed_moving, T.base)) return;
  FieldRefinement refined;
  backend_.refine_field(context_, workspace_, fine_fixed.ridges, fine_moving.ridges, T.base,
                        pipeline_math::field_options(options_.field, options_.model), best.control.data(), &refined);
  T.field = refined.field;
  take_field(deformed, options_.quality, best);
}

// On the vessels: as a homography, and as a quadratic where that explains clearly more of what the homography leaves.
Transform Session::align(const Features& fixed, const Features& moving, const Transform& start) {
  const TransformKind asked = static_cast<TransformKind>(options_.model.choice);
  const bool automatic = chooses_model(options_.model.choice);
  const auto refine = [&](const Transform& from, TransformKind kind) {
    RefineOptions options = options_.refine;
    options.kind = kind;
    Refinement refinement;
    backend_.refine(context_, workspace_, fixed.ridges, moving.ridges, from, options, &refinement);
    return refinement;
  };
  const Refinement first = refine(start, automatic ? TransformKind::homography : asked);
  if (!automatic) return first.T_fixed_moving;
  const Refinement bent = refine(first.T_fixed_moving, TransformKind::quadratic);
  return pipeline_math::asks_for_bend(bent, options_.model) ? bent.T_fixed_moving : first.T_fixed_moving;
}

}  // namespace fastretina
