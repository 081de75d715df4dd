#include "pipeline.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"

namespace fastretina {
namespace {

// Further attempts, cheap and likely ones first. Both sides only ever shrink: the device with the larger field loses nothing
// that the other one shows. The network is trained for relative rotations up to 50 degrees, so quarter turns cover the circle.
std::vector<Rung> ladder() {
  constexpr double kFields[] = {1.0, 1.0 / 1.7, 1.0 / 2.9};  // fields of view differ by up to x3 (30 to 100 degrees, crops)
  std::vector<Rung> rungs;
  const auto add = [&](double fixed, double moving, int turns, bool mirrored) {
    rungs.push_back({{fixed, 0, false}, {moving, turns, mirrored}});
  };
  for (const bool mirrored : {false, true})
    for (int turns = 0; turns < 4; ++turns) {
      add(1, 1, turns, mirrored);
      if (mirrored || turns != 0) continue;
      for (const double field : {kFields[1], kFields[2]}) {
        add(1, field, turns, mirrored);
        add(field, 1, turns, mirrored);
      }
    }
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

bool chooses_model(TransformChoice choice) {
  return choice == TransformChoice::automatic || choice == TransformChoice::dense;
}

// Network px on both sides -> the callers' px on both sides.
bool to_input(const Transform& T_network, const Features& fixed, const Features& moving, Transform& T_input) {
  Transform back, half;
  return invert(fixed.T_network_input, back) && compose(T_network, moving.T_network_input, half) &&
         compose(back, half, T_input);
}

void to_input_points(const PointPairs& pairs, const Features& fixed, const Features& moving, Candidate& out) {
  const auto map = [](const Transform& T, const float* from, int n, std::vector<float>& to) {
    Transform back;
    invert(T, back);
    to.resize(2 * static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) {
      const Point q = apply(back, {from[2 * i], from[2 * i + 1]});
      to[2 * static_cast<std::size_t>(i)] = static_cast<float>(q.x);
      to[2 * static_cast<std::size_t>(i) + 1] = static_cast<float>(q.y);
    }
  };
  map(fixed.T_network_input, pairs.fixed_xy, *pairs.count, out.fixed_xy);
  map(moving.T_network_input, pairs.moving_xy, *pairs.count, out.moving_xy);
}

}  // namespace

Session::Session(std::shared_ptr<Network> network, const Options& options, int threads, const Backend& backend)
    : network_(std::move(network)), options_(options), backend_(backend), context_(threads), rungs_(ladder()) {
  require(options.ladder.max_rungs >= 1, "max_rungs", std::to_string(options.ladder.max_rungs), "1 or more");
  options_.features.image.multiple = network_->multiple();
  // What is not asked for is not tried; automatic: key points decide up to the homography, vessels beyond it.
  options_.upgrade.max_kind = chooses_model(options.model.choice)
                                  ? std::min(options.upgrade.max_kind, TransformKind::homography)
                                  : static_cast<TransformKind>(options.model.choice);
  for (Candidate* candidate : {&candidate_, &result_.best})
    candidate->control.resize(static_cast<std::size_t>(field_capacity(options.field)));
}

void Session::prepare(const Image& image, Prepared& out) {
  if (out.poses_.empty()) out.poses_.push_back(std::make_unique<Features>());
  out.used_ = 1;
  out.timings = {};
  out.poses_.front()->extract(image, *network_, options_.features, backend_, context_, workspace_, out.timings);
}

// Would the image room take an image this small?
bool Session::shows_enough(const Features& first, const Pose& pose) const {
  if (pose == Pose{}) return true;
  const int working_size = scaled_working_size(options_.features.image, pose);
  return std::min({working_size, first.content.width, first.content.height}) >= kSmallestSidePx;
}

const Features& Session::in_pose(Prepared& image, const Pose& pose) {
  for (std::size_t i = 0; i < image.used_; ++i)
    if (image.poses_[i]->pose == pose) return *image.poses_[i];
  if (image.used_ == image.poses_.size()) image.poses_.push_back(std::make_unique<Features>());
  Features& features = *image.poses_[image.used_];
  features.extract(image.first(), pose, *network_, options_.features, backend_, context_, workspace_, timings_);
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
  for (const Rung& rung : rungs_) {
    if (result_.attempts == options_.ladder.max_rungs) break;
    if (!shows_enough(fixed.first(), rung.fixed) || !shows_enough(moving.first(), rung.moving)) continue;
    candidate_.rung = result_.attempts++;
    candidate_.fixed_pose = rung.fixed;
    candidate_.moving_pose = rung.moving;
    attempt(in_pose(fixed, rung.fixed), in_pose(moving, rung.moving), candidate_);
    if (candidate_.rung == 0 || candidate_.quality.confidence > result_.best.quality.confidence)
      std::swap(result_.best, candidate_);
    if (result_.best.quality.confidence >= options_.ladder.strong_confidence) break;
    if (result_.best.quality.status == Status::no_content) break;
  }
  deform(fixed, moving, result_.best);
  result_.timings = timings_;
  return result_;
}

// One rung: match -> estimate -> refine -> quality.
void Session::attempt(const Features& fixed, const Features& moving, Candidate& out) {
  const Workspace::Frame frame(workspace_);
  QualityInputs& measured = out.measured = {};
  measured.fixed = fixed.content;
  measured.moving = moving.content;
  measured.contrast_fixed = fixed.contrast;
  measured.contrast_moving = moving.contrast;
  measured.keypoints_fixed = *fixed.keypoints.count;
  measured.keypoints_moving = *moving.keypoints.count;

  const Matches matches = take_matches(fixed.keypoints.capacity, workspace_);
  PointPairs pairs;
  {
    const Stopwatch stopwatch(timings_.match);
    backend_.match(context_, workspace_, fixed.descriptors, moving.descriptors, options_.match, matches);
    pairs = pair_up(matches, fixed.keypoints, moving.keypoints, workspace_);
  }
  std::uint8_t* inlier = workspace_.take<std::uint8_t>(pairs.capacity);
  std::fill_n(inlier, pairs.capacity, std::uint8_t{0});
  const Estimate estimate = fit(fixed, moving, matches, pairs, inlier);
  measured.found = estimate.found;
  measured.matches = *pairs.count;
  if (estimate.found) {
    const Stopwatch stopwatch(timings_.refine);
    measured.T_fixed_moving = align(fixed, moving, estimate.T_fixed_moving);
    measured.inliers = estimate.inliers;
    measured.inlier_rms_px = estimate.rms_px;
    measured.coverage = estimate.coverage;
    measured.ridge_correlation = backend_.ridge_correlation(context_, workspace_, fixed.ridges, moving.ridges,
                                                            measured.T_fixed_moving, &measured.overlap_px);
  }
  const Stopwatch stopwatch(timings_.quality);
  out.quality = quality(measured, options_.quality);
  out.found = estimate.found && to_input(measured.T_fixed_moving, fixed, moving, out.T_fixed_moving);
  to_input_points(pairs, fixed, moving, out);
  out.score.assign(matches.score, matches.score + *matches.count);
  out.inlier.assign(inlier, inlier + *pairs.count);
}

// Similarity first; then matches again under its guidance; then a higher model where it explains clearly more.
Estimate Session::fit(const Features& fixed, const Features& moving, const Matches& matches, PointPairs& pairs,
                      std::uint8_t* inlier) {
  const Stopwatch stopwatch(timings_.estimate);
  Estimate estimate;
  backend_.estimate(context_, workspace_, pairs, options_.estimate, &estimate, inlier);
  if (!estimate.found) return estimate;
  backend_.match_guided(context_, workspace_, fixed.descriptors, moving.descriptors, fixed.keypoints, moving.keypoints,
                        estimate.T_fixed_moving, options_.guided, matches);
  pairs = pair_up(matches, fixed.keypoints, moving.keypoints, workspace_);
  Estimate upgraded;
  backend_.upgrade(context_, workspace_, pairs, estimate.T_fixed_moving, fixed.content, moving.content, options_.upgrade,
                   &upgraded, inlier);
  return upgraded;
}

// Once, on the answer: a smooth local field, where the vessels clearly ask for one. On top of a transform that cannot be
// trusted it would fit whatever is there, so the confidence stays that of the transform.
void Session::deform(Prepared& fixed, Prepared& moving, Candidate& best) {
  best.grid = {};
  const bool asked = options_.model.choice == TransformChoice::dense;
  const bool wanted = asked || (options_.model.choice == TransformChoice::automatic && best.quality.status == Status::ok);
  if (!wanted || !best.found) return;
  const Stopwatch stopwatch(timings_.refine);
  const Features &in_fixed = in_pose(fixed, best.fixed_pose), &in_moving = in_pose(moving, best.moving_pose);
  const double *N = in_fixed.T_network_input.p, scale = N[0];
  if (N[1] != 0 || N[3] != 0) return;  // a turned grid is no grid

  FieldOptions options = options_.field;
  if (!asked) options.min_gain_nats = std::max(options.min_gain_nats, options_.model.field_gain_nats);
  FieldRefinement refined;
  backend_.refine_field(context_, workspace_, in_fixed.ridges, in_moving.ridges, best.measured.T_fixed_moving, options,
                        best.control.data(), &refined);
  QualityInputs measured = best.measured;
  measured.field = refined.field;
  const Quality bent = quality(measured, options_.quality);
  if (refined.field.empty() || bent.status != best.quality.status) return;
  best.quality = bent;
  best.grid = refined.field;
  best.grid.x0 = (refined.field.x0 - N[2]) / scale;
  best.grid.y0 = (refined.field.y0 - N[5]) / scale;
  best.grid.step_x /= scale;
  best.grid.step_y /= scale;
  for (double& d : best.control) d /= scale;
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
  const double needed = bent.shift_px >= options_.model.large_bend_px ? options_.model.large_bend_gain_nats
                                                                      : options_.model.quadratic_gain_nats;
  return bent.gain_nats >= needed ? bent.T_fixed_moving : first.T_fixed_moving;
}

}  // namespace fastretina
