#include "pipeline_cuda.h"

#include <algorithm>
#include <utility>

#include "core/cuda.h"
#include "core/error.h"
#include "pipeline_device.h"

namespace fastretina::cuda {
namespace {

// --- one image --------------------------------------------------------------------------------------------------
// An image at one scale: how it is made of the source, and what the rooms make of it.
struct Shown {
  FeatureOptions options;
  ImageGeometry geometry;
  Transform T_network_input;
  View<float> plane;
  View<std::uint8_t> mask;
  RidgeMap ridges;

  Shown(const Transform& T_source_input, Size source, const FeatureOptions& at_one, double scale) : options(at_one) {
    options.image.working_size = scaled_working_size(at_one.image, {scale, 0, false});
    geometry = image_geometry(source, options.image);
    compose(resized_by(geometry.scale), T_source_input, T_network_input);
  }
  void take(Workspace& workspace, float* plane_memory) {
    const Size size = geometry.plane;
    plane = {plane_memory, size.width, size.height};
    mask = workspace.take_plane<std::uint8_t>(size.width, size.height);
    std::byte* memory = workspace.take<std::byte>(ridge_map_bytes(size, options.ridges));
    ridges = fastretina::lay_out(size, options.ridges, memory);
  }
  void look(const Context& context, Workspace& workspace, const Image& source, float* contrast) const {
    image(context, workspace, source, geometry, options.image, {plane, mask, {}, contrast});
    cuda::ridges(context, workspace, plane, mask, options.ridges, ridges);
  }
};

struct Side {
  Image input;
  ImageOptions source_options;
  ImageGeometry source;
  Transform T_source_input;
  View<float> gray;
  float* rows = nullptr;  // of the descriptors

  Side(const Image& image, const ImageOptions& options)
      : input(image),
        source_options(fastretina::source_options({image.width, image.height}, options)),
        source(image_geometry({image.width, image.height}, source_options)),
        T_source_input(resized_by(source.scale)) {}
};

// A pair: the rooms in their order, and their memory.
class Pair final : public DevicePair {
 public:
  Pair(const Image& fixed, const Image& moving, const Options& asked, int multiple, int dims);
  View<const float> plane(int i) const override { return seen_[i].plane; }
  void look(void* stream) override;
  void solve(void* stream, const NetworkOutput& fixed, const NetworkOutput& moving) override;
  const std::byte* findings() const override { return memory_; }
  std::size_t findings_bytes() const override { return bytes_; }
  const Registration& read(std::byte* findings) override;
  bool strong() const override { return strong_; }
  bool wants_field() const override { return wants_field_; }
  void deform(void* stream) override;
  const Registration& read_field(std::byte* findings) override;
  const Seen& seen(int i) const override { return looked_at_[i]; }

 private:
  Options options_;
  int dims_;
  Side side_[2];
  Rung fine_rung_;
  bool polishes_;
  Shown seen_[2], fine_[2];
  Workspace workspace_{device_memory()};
  Workspace::Frame kept_{workspace_};  // for the life of the pair; scratch lies on top of it
  Findings found_{};
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  Keypoints keypoints_[2];
  Matches matches_[2];
  Fit fit_{};
  Registration answer_;
  Deformed deformed_;
  bool strong_ = false, wants_field_ = false;
  Seen looked_at_[2];

  Shown shown(int i, double scale) const {
    return {side_[i].T_source_input, side_[i].source.content, options_.features, scale};
  }
  Rung finest_for(double magnification) const {
    return finest(side_[0].source.content, side_[1].source.content, {}, magnification, options_.features.image.working_size);
  }
  const Shown (&finest_shown() const)[2] { return polishes_ ? fine_ : seen_; }
  Frames frames(const Shown (&at)[2]) const { return {at[0].T_network_input, at[1].T_network_input}; }
  Descriptors descriptors(int i) const { return {side_[i].rows, keypoints_[i].count, keypoints_[i].capacity, dims_}; }
  PointPairs pairs() const {
    return {found_.fixed_xy, found_.moving_xy, nullptr, &found_.numbers->matches, matches_[0].capacity};
  }

  std::size_t lay_out(std::byte* memory, Findings& out) const {
    const Size planes[] = {seen_[0].geometry.plane, seen_[1].geometry.plane};
    return cuda::lay_out(memory, options_.features.detect.max_keypoints, field_capacity(options_.field), planes, out);
  }

  void describe_side(const Context& context, int i, const NetworkOutput& output);
  void estimate_pair(const Context& context);
  void align(const Context& context);
  void polish(const Context& context);
};

Pair::Pair(const Image& fixed, const Image& moving, const Options& asked, int multiple, int dims)
    : options_(resolved(asked, multiple)),
      dims_(dims),
      side_{{fixed, options_.features.image}, {moving, options_.features.image}},
      fine_rung_(finest_for(1)),
      polishes_(fine_rung_ != Rung{}),
      seen_{shown(0, 1), shown(1, 1)},
      fine_{shown(0, fine_rung_.fixed.scale), shown(1, fine_rung_.moving.scale)} {
  const int capacity = options_.features.detect.max_keypoints;
  const auto most = static_cast<std::size_t>(capacity);
  bytes_ = lay_out(nullptr, found_);
  memory_ = workspace_.take<std::byte>(bytes_);
  lay_out(memory_, found_);
  const auto take_planes = [&](Shown (&at)[2]) {
    const Size a = at[0].geometry.plane, b = at[1].geometry.plane;
    const std::size_t first = static_cast<std::size_t>(a.width) * static_cast<std::size_t>(a.height);
    const std::size_t second = static_cast<std::size_t>(b.width) * static_cast<std::size_t>(b.height);
    float* plane = workspace_.take<float>(first + second);
    at[0].take(workspace_, plane);
    at[1].take(workspace_, plane + first);
  };
  take_planes(seen_);
  if (polishes_) take_planes(fine_);
  for (int i = 0; i < 2; ++i) {
    side_[i].gray = workspace_.take_plane<float>(side_[i].source.content.width, side_[i].source.content.height);
    side_[i].rows = workspace_.take<float>(most * static_cast<std::size_t>(dims));
    keypoints_[i] = {found_.keypoints[i], found_.keypoint_score[i], &found_.numbers->keypoints[i], capacity};
    Matches& m = matches_[i];
    m = {workspace_.take<int>(most), workspace_.take<int>(most), workspace_.take<float>(most), workspace_.take<int>(1),
         capacity};
  }
  fit_.similarity = workspace_.take<Estimate>(1), fit_.upgraded = workspace_.take<Estimate>(1);
  for (Refinement** out : {&fit_.homography, &fit_.quadratic, &fit_.fine}) *out = workspace_.take<Refinement>(1);
  for (std::uint8_t** out : {&fit_.similarity_inlier, &fit_.upgraded_inlier})
    *out = workspace_.take<std::uint8_t>(most);
  fit_.aside = workspace_.take<Transform>(Sidelobes::kCount), fit_.start = workspace_.take<Transform>(1);
  fit_.aside_agreement = workspace_.take<RidgeCorrelation>(Sidelobes::kCount);
  answer_.best.control.resize(static_cast<std::size_t>(field_capacity(options_.field)));
}

void Pair::describe_side(const Context& context, int i, const NetworkOutput& output) {
  int* bad = &found_.numbers->bad_answer;
  const View<float> difference = found_.difference[i];
  launch(context, {blocks_for(difference.width, 32), blocks_for(difference.height, 8)}, dim3(32, 8), record_kernel,
         output.difference, difference, bad);
  detect(context, workspace_, difference, seen_[i].mask, options_.features.detect, keypoints_[i]);
  describe(context, workspace_, output.descriptors, keypoints_[i], side_[i].rows);
  launch(context, 64, kThreads, finite_kernel, descriptors(i), bad);
}

// Similarity first; then matches again under its guidance; then a higher model where it explains clearly more.
void Pair::estimate_pair(const Context& context) {
  const unsigned blocks = blocks_for(matches_[0].capacity, kThreads);
  match(context, workspace_, descriptors(0), descriptors(1), options_.match, matches_[0]);
  launch(context, blocks, kThreads, pair_up_kernel, MatchChoice{matches_[0], matches_[1]}, keypoints_[0], keypoints_[1],
         found_);
  estimate(context, workspace_, pairs(), options_.estimate, fit_.similarity, fit_.similarity_inlier);
  match_guided(context, workspace_, descriptors(0), descriptors(1), keypoints_[0], keypoints_[1],
               fit_.similarity->T_fixed_moving, options_.guided, matches_[1]);
  launch(context, blocks, kThreads, pair_up_kernel, MatchChoice{matches_[0], matches_[1], fit_.similarity},
         keypoints_[0], keypoints_[1], found_);
  upgrade(context, workspace_, pairs(), fit_.similarity->T_fixed_moving, seen_[0].geometry.content,
          seen_[1].geometry.content, options_.upgrade, fit_.upgraded, fit_.upgraded_inlier);
}

// On the vessels: as a homography, and as a quadratic where that explains clearly more of what the homography leaves.
void Pair::align(const Context& context) {
  const bool automatic = chooses_model(options_.model.choice);
  const auto refine_to = [&](TransformKind kind, const Transform& start, Refinement* out) {
    RefineOptions refining = options_.refine;
    refining.kind = kind;
    refine(context, workspace_, seen_[0].ridges, seen_[1].ridges, start, refining, out);
  };
  const TransformKind asked = static_cast<TransformKind>(options_.model.choice);
  refine_to(automatic ? TransformKind::homography : asked, fit_.upgraded->T_fixed_moving, fit_.homography);
  if (automatic) refine_to(TransformKind::quadratic, fit_.homography->T_fixed_moving, fit_.quadratic);
  launch(context, 1, 1, aligned_kernel, fit_, automatic, options_.model, Sidelobes(),
         Views{frames(seen_), frames(fine_)}, found_);
  Numbers& n = *found_.numbers;
  ridge_correlation(context, workspace_, seen_[0].ridges, seen_[1].ridges, {&n.T_network, 1}, kRidgeRowStep,
                    &n.agreement);
  ridge_correlation(context, workspace_, seen_[0].ridges, seen_[1].ridges, {fit_.aside, std::size_t{Sidelobes::kCount}},
                    pipeline_math::kSidelobeRowStep, fit_.aside_agreement);
}

// The vessels are aligned once more at the finest scale.
void Pair::polish(const Context& context) {
  refine(context, workspace_, fine_[0].ridges, fine_[1].ridges, *fit_.start,
         pipeline_math::polish_options(options_.refine), fit_.fine);
  launch(context, 1, 1, polished_kernel, fit_, Views{frames(seen_), frames(fine_)}, found_);
  Polished& polished = found_.numbers->polished;
  ridge_correlation(context, workspace_, seen_[0].ridges, seen_[1].ridges, {&polished.T_network, 1}, kRidgeRowStep,
                    &polished.agreement);
}

void Pair::look(void* stream) {
  Context context(1);
  context.stream = stream;
  Numbers* numbers = found_.numbers;
  fill(context, numbers, 0, sizeof(Numbers));
  for (int i = 0; i < 2; ++i) {
    const Side& side = side_[i];
    if (side.input.type == PixelType::f32)
      launch(context, static_cast<unsigned>(std::min(side.input.height, 1024)), kThreads, range_kernel, side.input,
             &numbers->bad_pixels[i]);
    gray(context, workspace_, side.input, side.source, side.source_options, side.gray);
    seen_[i].look(context, workspace_, image_of(side.gray), &numbers->contrast[i]);
    if (polishes_) fine_[i].look(context, workspace_, image_of(side.gray), nullptr);
  }
}

void Pair::solve(void* stream, const NetworkOutput& fixed, const NetworkOutput& moving) {
  Context context(1);
  context.stream = stream;
  describe_side(context, 0, fixed);
  describe_side(context, 1, moving);
  estimate_pair(context);
  align(context);
  if (polishes_) polish(context);
  launch(context, 1, kThreads, conclude_kernel, fit_, found_);
}

const Registration& Pair::read(std::byte* findings) {
  Findings host{};
  const int capacity = matches_[0].capacity;
  lay_out(findings, host);
  Numbers& n = *host.numbers;
  for (int i = 0; i < 2; ++i)
    require(n.bad_pixels[i] == 0, i == 0 ? "fixed" : "moving", "NaN, infinity or a value out of range",
            "float32 in [0, 1]");
  if (n.bad_answer != 0) throw EngineError("network: NaN or infinity in its answer");

  Candidate& out = answer_.best;
  QualityInputs& measured = out.measured = {};
  measured.fixed = seen_[0].geometry.content, measured.moving = seen_[1].geometry.content;
  measured.contrast_fixed = n.contrast[0], measured.contrast_moving = n.contrast[1];
  measured.keypoints_fixed = n.keypoints[0], measured.keypoints_moving = n.keypoints[1];
  measured.found = n.found, measured.matches = n.matches;
  if (n.found) {
    measured.T_fixed_moving = n.T_network;
    measured.inliers = n.estimate.inliers, measured.inlier_rms_px = n.estimate.rms_px;
    measured.coverage = n.estimate.coverage;
    measured.ridge_correlation = n.agreement.score, measured.overlap_px = n.agreement.overlap_px;
    measured.peak_to_sidelobe = n.peak_to_sidelobe, measured.inlier_similarity = n.inlier_similarity;
  }
  const PointPairs pairs{host.fixed_xy, host.moving_xy, nullptr, &n.matches, capacity};
  judge({pairs, host.score, host.inlier}, frames(seen_), options_.quality, out);
  answer_.attempts = 1;
  const bool wants_field = pipeline_math::wants_field(out, options_.model);
  // The finest scale is settled before a pair is seen: that of fields of one size. Others are the ladder's.
  const bool shown_so = finest_for(magnification(out, frames(seen_))) == fine_rung_;
  strong_ = ends_climb(answer_, options_.ladder) && (shown_so || !(out.quality.status == Status::ok || wants_field));
  if (polishes_ && n.has_polished && out.quality.status == Status::ok)
    take_polished(n.polished, options_.quality, out);
  for (int i = 0; i < 2; ++i)
    looked_at_[i] = {seen_[i].T_network_input, seen_[i].geometry.content,
                      {host.keypoints[i], host.keypoint_score[i], &n.keypoints[i], capacity}, host.difference[i]};
  const Shown(&at)[2] = finest_shown();
  deformed_ = {frames(at), at[0].geometry.content, at[1].geometry.content, {}};
  wants_field_ = strong_ && wants_field && deformed_.frames.to_network(out.T_fixed_moving, deformed_.T_network.base);
  return answer_;
}

// On the vessels at the finest scale, from the transform that was read.
void Pair::deform(void* stream) {
  Context context(1);
  context.stream = stream;
  const Shown(&at)[2] = finest_shown();
  launch(context, 1, 1, set_kernel, deformed_.T_network.base, fit_.start);
  refine_field(context, workspace_, at[0].ridges, at[1].ridges, *fit_.start,
               pipeline_math::field_options(options_.field, options_.model), found_.control, found_.field);
}

const Registration& Pair::read_field(std::byte* findings) {
  Findings host{};
  lay_out(findings, host);
  Field& field = deformed_.T_network.field;
  field = host.field->field;
  field.control = host.control;
  take_field(deformed_, options_.quality, answer_.best);
  return answer_;
}

}  // namespace

std::unique_ptr<DevicePair> make_device_pair(const Image& fixed, const Image& moving, const Options& options,
                                             int multiple, int dims) {
  return std::make_unique<Pair>(fixed, moving, options, multiple, dims);
}

}  // namespace fastretina::cuda
