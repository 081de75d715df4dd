// Sessions, prepared images, registration and warp.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/pixels.h"
#include "capi/sized.h"

namespace fastretina::capi {
namespace {

constexpr int kMostThreads = 1024, kFewestKeypoints = 16, kMostKeypoints = 65536, kLargestWorkingSize = 8192;

void check_range(int value, int low, int high, const char* argument, const char* allowed) {
  require(value >= low && value <= high, argument, std::to_string(value), allowed);
}

fastretina_options to_c(const Options& o) {
  return {sizeof(fastretina_options),
          1,
          0,
          o.features.detect.max_keypoints,
          static_cast<std::int32_t>(o.model.choice),
          o.ladder.max_rungs,
          o.estimate.seed,
          o.quality.min_confidence};
}

// The rooms' defaults, then the network's manifest, then what the caller asks for.
Options from_c(const fastretina_options& c, const Manifest& manifest) {
  check_range(c.threads, 1, kMostThreads, "threads", "1 ... 1024");
  if (c.working_size != 0)
    check_range(c.working_size, kSmallestSidePx, kLargestWorkingSize, "working_size",
                "64 ... 8192, or 0 for the network's own");
  check_range(c.max_keypoints, kFewestKeypoints, kMostKeypoints, "max_keypoints", "16 ... 65536");
  check_range(c.transform, static_cast<int>(TransformChoice::automatic), static_cast<int>(TransformChoice::dense),
              "transform", "FASTRETINA_TRANSFORM_AUTO, or FASTRETINA_SIMILARITY ... FASTRETINA_DENSE");
  require(c.max_attempts >= 1, "max_attempts", std::to_string(c.max_attempts), "1 or more");
  require(c.min_confidence >= 0 && c.min_confidence <= 1, "min_confidence", std::to_string(c.min_confidence),
          "0 ... 1");
  Options o;
  o.quality.confidence = manifest.confidence;
  for (const int size : {manifest.working_size, c.working_size})
    if (size != 0) o.features.image.working_size = size;
  o.features.detect.max_keypoints = c.max_keypoints;
  o.model.choice = static_cast<TransformChoice>(c.transform);
  o.ladder.max_rungs = c.max_attempts;
  o.estimate.seed = c.seed;
  o.quality.min_confidence = c.min_confidence;
  return o;
}

fastretina_result to_c(const Registration& r) {
  const Candidate& c = r.best;
  fastretina_result out{};
  out.status = static_cast<fastretina_status>(c.quality.status);
  out.confidence = c.quality.confidence;
  out.ridge_correlation = c.measured.ridge_correlation;
  out.peak_to_sidelobe = c.measured.peak_to_sidelobe;
  out.inlier_similarity = c.measured.inlier_similarity;
  out.overlap = c.quality.overlap;
  out.coverage = c.measured.coverage;
  out.inlier_rms_px = c.measured.inlier_rms_px;
  out.scale = c.quality.scale;
  out.rotation_deg = c.quality.rotation_deg;
  out.anisotropy = c.quality.anisotropy;
  out.mirrored = c.quality.mirrored;
  out.matches = c.measured.matches;
  out.inliers = c.measured.inliers;
  out.keypoints_fixed = c.measured.keypoints_fixed;
  out.keypoints_moving = c.measured.keypoints_moving;
  out.attempts = r.attempts;
  return out;
}

void check_prepared(const fastretina_session& session, const fastretina_prepared& prepared, const char* argument) {
  require(prepared.session_id != 0, argument, "one that is empty", "one that fastretina_prepare has filled");
  require(prepared.session_id == session.id, argument, "one that another session has prepared", "one of this session");
}

// The outputs are checked before the work, and written after it.
template <class Work>
fastretina_error registered(fastretina_transform* transform, fastretina_result* result, Work&& work) {
  return guarded([&] {
    given(transform, "transform").steps.clear();
    fastretina_result probe{};
    probe.struct_size = given(result, "result").struct_size;
    write_sized(fastretina_result{}, probe, "result");
    const Registration& registration = work();
    set_steps(registration.best, transform->steps);
    write_sized(to_c(registration), *result, "result");
  });
}

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace
}  // namespace fastretina::capi

using namespace fastretina;
using namespace fastretina::capi;

extern "C" {

void fastretina_options_default(fastretina_options* options) {
  if (options != nullptr) *options = to_c(Options{});
}

fastretina_error fastretina_session_create(const fastretina_model* model, const fastretina_options* options,
                                           fastretina_session** session) {
  return guarded([&] {
    const auto& shared = given(model, "model").shared;
    given(session, "session");
    fastretina_options asked = to_c(Options{});
    if (options != nullptr) read_sized(*options, asked, "options");
    const Options checked = from_c(asked, shared->manifest);
    auto network = std::make_shared<EngineNetwork>(shared, asked.threads);
    *session = new fastretina_session{next_id(), fastretina::Session(std::move(network), checked, asked.threads)};
  });
}

void fastretina_session_destroy(fastretina_session* session) { delete session; }

fastretina_error fastretina_prepared_create(fastretina_prepared** prepared) {
  return guarded([&] {
    given(prepared, "prepared");
    *prepared = new fastretina_prepared;
  });
}

void fastretina_prepared_destroy(fastretina_prepared* prepared) { delete prepared; }

fastretina_error fastretina_prepare(fastretina_session* session, const fastretina_image* image,
                                    fastretina_prepared* prepared) {
  return guarded([&] {
    fastretina_prepared& out = given(prepared, "prepared");
    out.session_id = 0;
    given(session, "session").core.prepare(pixels_of(image, "image"), out.core);
    out.session_id = session->id;
  });
}

fastretina_error fastretina_register(fastretina_session* session, fastretina_prepared* fixed,
                                     const fastretina_image* moving, fastretina_transform* transform,
                                     fastretina_result* result) {
  return registered(transform, result, [&]() -> const Registration& {
    check_prepared(given(session, "session"), given(fixed, "fixed"), "fixed");
    return session->core.register_pair(fixed->core, pixels_of(moving, "moving"));
  });
}

fastretina_error fastretina_register_prepared(fastretina_session* session, fastretina_prepared* fixed,
                                              fastretina_prepared* moving, fastretina_transform* transform,
                                              fastretina_result* result) {
  return registered(transform, result, [&]() -> const Registration& {
    check_prepared(given(session, "session"), given(fixed, "fixed"), "fixed");
    check_prepared(*session, given(moving, "moving"), "moving");
    return session->core.register_pair(fixed->core, moving->core);
  });
}

const char* fastretina_status_name(fastretina_status status) {
  const bool known = status >= FASTRETINA_STATUS_OK && status <= FASTRETINA_STATUS_LOW_AGREEMENT;
  return known ? status_name(static_cast<Status>(status)) : "unknown";
}

void fastretina_result_init(fastretina_result* result) {
  if (result == nullptr) return;
  *result = {};
  result->struct_size = sizeof *result;
  result->status = FASTRETINA_STATUS_TOO_FEW_MATCHES;
}

fastretina_error fastretina_warp(fastretina_session* session, const fastretina_image* moving,
                                 const fastretina_transform* transform, fastretina_interpolation interpolation,
                                 const fastretina_mutable_image* out, uint8_t* valid, int64_t valid_row_bytes) {
  return guarded([&] {
    fastretina::Session& core = given(session, "session").core;
    const Image from = pixels_of(moving, "moving");
    const MutableImage to = pixels_of(out, "out");
    require(valid == nullptr || valid_row_bytes >= to.width, "valid_row_bytes", std::to_string(valid_row_bytes),
            "the width of out or more");
    const View<std::uint8_t> mask(valid, to.width, to.height, static_cast<std::ptrdiff_t>(valid_row_bytes));
    const Deformation map = deformation(given(transform, "transform").steps);
    cpu::warp(core.context(), core.workspace(), from, map, {static_cast<Interpolation>(interpolation)}, to, mask);
  });
}

}  // extern "C"
