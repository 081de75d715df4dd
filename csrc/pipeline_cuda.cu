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

}  // namespace

struct DevicePair::Impl {
  Options options;
  int dims;
  Side side[2];
  Rung fine_rung;
  bool polishes;
  Shown seen[2], fine[2];
  Workspace workspace{device_memory()};
  Workspace::Frame kept{workspace};  // for the life of the pair; scratch lies on top of it
  Findings found{};
  std::byte* memory = nullptr;
  std::size_t bytes = 0;
  Keypoints keypoints[2];
  Matches matches[2];
  Fit fit{};
  Registration answer;
  Seen looked_at[2];

  Impl(const Image& fixed, const Image& moving, const Options& asked, int multiple, int dims_);
  Shown shown(int i, double scale) const {
    return {side[i].T_source_input, side[i].source.content, options.features, scale};
  }
  Frames frames(const Shown (&at)[2]) const { return {at[0].T_network_input, at[1].T_network_input}; }
  Descriptors descriptors(int i) const { return {side[i].rows, keypoints[i].count, keypoints[i].capacity, dims}; }
  PointPairs pairs() const {
    return {found.fixed_xy, found.moving_xy, nullptr, &found.numbers->matches, matches[0].capacity};
  }

  void describe_side(const Context& context, int i, const NetworkOutput& output);
  void estimate_pair(const Context& context);
  void align(const Context& context);
  void polish(const Context& context);
};

DevicePair::Impl::Impl(const Image& fixed, const Image& moving, const Options& asked, int multiple, int dims_)
    : options(resolved(asked, multiple)),
      dims(dims_),
      side{{fixed, options.features.image}, {moving, options.features.image}},
      fine_rung(finest(side[0].source.content, side[1].source.content, {}, options.features.image.working_size)),
      polishes(!(fine_rung.fixed == Pose{} && fine_rung.moving == Pose{})),
      seen{shown(0, 1), shown(1, 1)},
      fine{shown(0, fine_rung.fixed.scale), shown(1, fine_rung.moving.scale)} {
  const int capacity = options.features.detect.max_keypoints;
  const auto most = static_cast<std::size_t>(capacity);
  const Size planes[] = {seen[0].geometry.plane, seen[1].geometry.plane};
  bytes = lay_out(nullptr, capacity, planes, found);
  memory = workspace.take<std::byte>(bytes);
  lay_out(memory, capacity, planes, found);
  const auto take_planes = [&](Shown (&at)[2]) {
    const Size a = at[0].geometry.plane, b = at[1].geometry.plane;
    const std::size_t first = static_cast<std::size_t>(a.width) * static_cast<std::size_t>(a.height);
    float* plane = workspace.take<float>(first + static_cast<std::size_t>(b.width) * static_cast<std::size_t>(b.height));
    at[0].take(workspace, plane);
    at[1].take(workspace, plane + first);
  };
  take_planes(seen);
  if (polishes) take_planes(fine);
  for (int i = 0; i < 2; ++i) {
    side[i].gray = workspace.take_plane<float>(side[i].source.content.width, side[i].source.content.height);
    side[i].rows = workspace.take<float>(most * static_cast<std::size_t>(dims));
    keypoints[i] = {found.keypoints[i], found.keypoint_score[i], &found.numbers->keypoints[i], capacity};
    Matches& m = matches[i];
    m = {workspace.take<int>(most), workspace.take<int>(most), workspace.take<float>(most), workspace.take<int>(1),
         capacity};
  }
  fit.similarity = workspace.take<Estimate>(1), fit.upgraded = workspace.take<Estimate>(1);
  for (Refinement** refined : {&fit.homography, &fit.quadratic, &fit.fine}) *refined = workspace.take<Refinement>(1);
  fit.similarity_inlier = workspace.take<std::uint8_t>(most), fit.upgraded_inlier = workspace.take<std::uint8_t>(most);
  fit.aside = workspace.take<Transform>(Sidelobes::kCount), fit.start = workspace.take<Transform>(1);
  fit.aside_agreement = workspace.take<RidgeCorrelation>(Sidelobes::kCount);
}

void DevicePair::Impl::describe_side(const Context& context, int i, const NetworkOutput& output) {
  int* bad = &found.numbers->bad_answer;
  const View<float> difference = found.difference[i];
  launch(context, {blocks_for(difference.width, 32), blocks_for(difference.height, 8)}, dim3(32, 8), record_kernel,
         output.difference, difference, bad);
  detect(context, workspace, difference, seen[i].mask, options.features.detect, keypoints[i]);
  describe(context, workspace, output.descriptors, keypoints[i], side[i].rows);
  launch(context, 64, kThreads, finite_kernel, descriptors(i), bad);
}

// Similarity first; then matches again under its guidance; then a higher model where it explains clearly more.
void DevicePair::Impl::estimate_pair(const Context& context) {
  const unsigned blocks = blocks_for(matches[0].capacity, kThreads);
  match(context, workspace, descriptors(0), descriptors(1), options.match, matches[0]);
  launch(context, blocks, kThreads, pair_up_kernel, MatchChoice{matches[0], matches[1]}, keypoints[0], keypoints[1],
         found);
  estimate(context, workspace, pairs(), options.estimate, fit.similarity, fit.similarity_inlier);
  match_guided(context, workspace, descriptors(0), descriptors(1), keypoints[0], keypoints[1],
               fit.similarity->T_fixed_moving, options.guided, matches[1]);
  launch(context, blocks, kThreads, pair_up_kernel, MatchChoice{matches[0], matches[1], fit.similarity}, keypoints[0],
         keypoints[1], found);
  upgrade(context, workspace, pairs(), fit.similarity->T_fixed_moving, seen[0].geometry.content,
          seen[1].geometry.content, options.upgrade, fit.upgraded, fit.upgraded_inlier);
}

// On the vessels: as a homography, and as a quadratic where that explains clearly more of what the homography leaves.
void DevicePair::Impl::align(const Context& context) {
  const bool automatic = chooses_model(options.model.choice);
  const auto refine_to = [&](TransformKind kind, const Transform& start, Refinement* out) {
    RefineOptions refining = options.refine;
    refining.kind = kind;
    refine(context, workspace, seen[0].ridges, seen[1].ridges, start, refining, out);
  };
  const TransformKind asked = static_cast<TransformKind>(options.model.choice);
  refine_to(automatic ? TransformKind::homography : asked, fit.upgraded->T_fixed_moving, fit.homography);
  if (automatic) refine_to(TransformKind::quadratic, fit.homography->T_fixed_moving, fit.quadratic);
  launch(context, 1, 1, aligned_kernel, fit, automatic, options.model, Sidelobes(), Views{frames(seen), frames(fine)},
         found);
  Numbers& n = *found.numbers;
  ridge_correlation(context, workspace, seen[0].ridges, seen[1].ridges, {&n.T_network, 1}, kRidgeRowStep, &n.agreement);
  ridge_correlation(context, workspace, seen[0].ridges, seen[1].ridges, {fit.aside, std::size_t{Sidelobes::kCount}},
                    pipeline_math::kSidelobeRowStep, fit.aside_agreement);
}

// The vessels are aligned once more at the finest scale.
void DevicePair::Impl::polish(const Context& context) {
  refine(context, workspace, fine[0].ridges, fine[1].ridges, *fit.start, pipeline_math::polish_options(options.refine),
         fit.fine);
  launch(context, 1, 1, polished_kernel, fit, Views{frames(seen), frames(fine)}, found);
  Polished& polished = found.numbers->polished;
  ridge_correlation(context, workspace, seen[0].ridges, seen[1].ridges, {&polished.T_network, 1}, kRidgeRowStep,
                    &polished.agreement);
}

DevicePair::DevicePair(const Image& fixed, const Image& moving, const Options& options, int multiple, int dims)
    : impl_(std::make_unique<Impl>(fixed, moving, options, multiple, dims)) {}
DevicePair::~DevicePair() = default;

View<const float> DevicePair::fixed_plane() const { return impl_->seen[0].plane; }
View<const float> DevicePair::moving_plane() const { return impl_->seen[1].plane; }
const std::byte* DevicePair::findings() const { return impl_->memory; }
std::size_t DevicePair::findings_bytes() const { return impl_->bytes; }
const DevicePair::Seen& DevicePair::fixed_seen() const { return impl_->looked_at[0]; }
const DevicePair::Seen& DevicePair::moving_seen() const { return impl_->looked_at[1]; }

void DevicePair::look(void* stream) {
  Impl& p = *impl_;
  Context context(1);
  context.stream = stream;
  Numbers* numbers = p.found.numbers;
  fill(context, numbers, 0, sizeof(Numbers));
  for (int i = 0; i < 2; ++i) {
    const Side& side = p.side[i];
    if (side.input.type == PixelType::f32)
      launch(context, static_cast<unsigned>(std::min(side.input.height, 1024)), kThreads, range_kernel, side.input,
             &numbers->bad_pixels[i]);
    gray(context, p.workspace, side.input, side.source, side.source_options, side.gray);
    p.seen[i].look(context, p.workspace, image_of(side.gray), &numbers->contrast[i]);
    if (p.polishes) p.fine[i].look(context, p.workspace, image_of(side.gray), nullptr);
  }
}

void DevicePair::solve(void* stream, const NetworkOutput& fixed, const NetworkOutput& moving) {
  Impl& p = *impl_;
  Context context(1);
  context.stream = stream;
  p.describe_side(context, 0, fixed);
  p.describe_side(context, 1, moving);
  p.estimate_pair(context);
  p.align(context);
  if (p.polishes) p.polish(context);
  launch(context, 1, kThreads, conclude_kernel, p.fit, p.found);
}

const Registration& DevicePair::read(std::byte* findings) {
  Impl& p = *impl_;
  Findings host{};
  const int capacity = p.matches[0].capacity;
  lay_out(findings, capacity, {p.seen[0].geometry.plane, p.seen[1].geometry.plane}, host);
  Numbers& n = *host.numbers;
  for (int i = 0; i < 2; ++i)
    require(n.bad_pixels[i] == 0, i == 0 ? "fixed" : "moving", "NaN, infinity or a value out of range",
            "float32 in [0, 1]");
  if (n.bad_answer != 0) throw EngineError("network: NaN or infinity in its answer");

  Candidate& out = p.answer.best;
  QualityInputs& measured = out.measured = {};
  measured.fixed = p.seen[0].geometry.content, measured.moving = p.seen[1].geometry.content;
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
  judge({pairs, host.score, host.inlier}, p.frames(p.seen), p.options.quality, out);
  if (p.polishes && n.has_polished && out.quality.status == Status::ok)
    take_polished(n.polished, p.options.quality, out);
  p.answer.attempts = 1;
  for (int i = 0; i < 2; ++i)
    p.looked_at[i] = {p.seen[i].T_network_input, p.seen[i].geometry.content,
                      {host.keypoints[i], host.keypoint_score[i], &n.keypoints[i], capacity}, host.difference[i]};
  return p.answer;
}

bool DevicePair::strong() const { return ends_climb(impl_->answer, impl_->options.ladder); }

}  // namespace fastretina::cuda
