// The whole registration, in the order of the rooms. pipeline.cpp is the file to read first.
//
// A Session (threads, scratch, network) belongs to one thread. An image prepared once may be registered against many times.
// Failure to register is data: see quality/quality.h.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "candidate.h"
#include "core/backend.h"
#include "image_features.h"
#include "network/network.h"

namespace fastretina {

enum class TransformChoice : int { automatic = 0, similarity = 1, affine = 2, homography = 3, quadratic = 4, dense = 5 };

// How one attempt shows the two images.
struct Rung {
  Pose fixed, moving;
  bool levelled = false;  // MOVING is scaled so that both fields of view cover the same share of their frames
  bool operator==(const Rung&) const = default;
};

struct LadderOptions {
  double strong_confidence = 0.9;  // an attempt at least this good ends the climb
  int max_rungs = 64;              // the last of them has one start only; 1: the first start of the first rung
};

struct ModelOptions {
  TransformChoice choice = TransformChoice::automatic;  // dense: as automatic, but a field needs less evidence
  // automatic: log-likelihood of the ridges, in nats, that a quadratic must gain over the homography. Its four further
  // parameters alone gain two; BIC asks for 13 at a 480-px frame, and neighbouring ridges are not quite independent.
  double quadratic_gain_nats = 15;
  // A bend that moves the overlap by more than that (root mean square, network px) is worth having where it is only
  // likely, since no homography comes near.
  double large_bend_px = 2;
  double large_bend_gain_nats = 5;
  // automatic: what held-out ridges must gain by a field, in nats. Pairs that are a homography apart gain 6 at most; real
  // pairs of one eye gain far more for about a px, and few of those who ask for a transform want that px at the price of one
  // that is not smooth. TransformChoice::dense is for those who do.
  double field_gain_nats = 110;
};

struct Options {
  ModelOptions model;
  FeatureOptions features;
  MatchOptions match;
  GuidedMatchOptions guided;
  EstimateOptions estimate;
  UpgradeOptions upgrade;
  RefineOptions refine;
  FieldOptions field;
  QualityOptions quality;
  LadderOptions ladder;
};

// `options` for a network, with what follows from them: what is not asked for is not tried.
Options resolved(Options options, int multiple);
bool chooses_model(TransformChoice choice);  // automatic: key points decide up to the homography, vessels beyond it

// How the finest scale that both images have shows them, for the ridges alone: a rung may have shown a field small or
// cut its corners off, and even as they are the images may hold more than the network was shown. The image with the larger
// field is enlarged until both show a vessel about as wide: what a ridge is depends on the scale. `magnification`: px of
// FIXED to a px of MOVING, as the rung shows them (see candidate.h).
Rung finest(Size fixed_source, Size moving_source, const Rung& shown, double magnification, int working_size);

// One image, ready to be registered: its features as it is, and, once a weak pair asked for them, in other poses.
// Belongs to one session at a time. Memory only grows.
class Prepared {
 public:
  const Features& first() const { return *poses_.front(); }
  Timings timings;  // of prepare()

 private:
  friend class Session;
  Source source_;
  std::vector<std::unique_ptr<Features>> poses_;  // the first is the image as it is
  std::size_t used_ = 0;
};

struct Registration {
  Candidate best;    // by confidence; meaningful as a transform only where best.found
  int attempts = 0;  // rungs climbed
  Timings timings;   // of this registration; those of prepare() are with the images
};

// Is the best so far the answer, or are there further starts and rungs to try?
bool ends_climb(const Registration& so_far, const LadderOptions& options);

class Session {
 public:
  // network: may be shared with other sessions if it says so; runs on this session's thread.
  Session(std::shared_ptr<Network> network, const Options& options, int threads, const Backend& backend = cpu_backend());

  void prepare(const Image& image, Prepared& out);
  const Registration& register_pair(Prepared& fixed, const Image& moving);
  const Registration& register_pair(Prepared& fixed, Prepared& moving);

  const Options& options() const { return options_; }
  const Context& context() const { return context_; }
  Workspace& workspace() { return workspace_; }

 private:
  bool shows_enough(const Pose& pose) const;
  const Features& in_pose(Prepared& image, const Pose& pose, bool described = true);
  Rung finest_of(Prepared& fixed, Prepared& moving, const Candidate& best);
  void polish(Prepared& fixed, Prepared& moving, const Rung& last, Candidate& best);
  bool attempt(const Features& fixed, const Features& moving);
  void conclude(const Features& fixed, const Features& moving, const Estimate& start, const Matches& matches,
                PointPairs pairs, std::uint8_t* inlier, Candidate& out);
  void deform(Prepared& fixed, Prepared& moving, const Rung& last, Candidate& best);
  Transform align(const Features& fixed, const Features& moving, const Transform& start);
  double peak_to_sidelobe(const Features& fixed, const Features& moving, const Transform& T, double peak);
  Estimate upgrade(const Features& fixed, const Features& moving, const Transform& start, const Matches& matches,
                   PointPairs& pairs, std::uint8_t* inlier);

  std::shared_ptr<Network> network_;
  Options options_;
  const Backend& backend_;
  Context context_;
  std::vector<Rung> rungs_;
  Workspace workspace_;
  Timings timings_;
  Prepared moving_;
  Candidate candidate_;
  Registration result_;
};

}  // namespace fastretina
