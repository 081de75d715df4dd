// Models, sessions and registration through the C ABI: the core's bits, every misuse an error with a text, any order of
// ends.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "capi/fastretina.hpp"
#include "filter_engine.h"
#include "pipeline.h"

using namespace fastretina;

namespace {

const Scene scene(1);
const Photograph fixed_photo(scene, {}, kWidth, kHeight),
    moving_photo(scene, shifted(12.5, -7.25, 0.03), kWidth, kHeight);

struct Rig {
  FilterEngine engine;
  fastretina_model* model = load(engine);
  fastretina_session* session = nullptr;
  fastretina_prepared* prepared = nullptr;
  fastretina_transform* transform = nullptr;
  fastretina_result result;

  Rig() {
    const fastretina_options options = filter_options();
    CHECK(fastretina_session_create(model, &options, &session) == FASTRETINA_SUCCESS);
    CHECK(fastretina_prepared_create(&prepared) == FASTRETINA_SUCCESS);
    CHECK(fastretina_transform_create(&transform) == FASTRETINA_SUCCESS);
    fastretina_result_init(&result);
  }
  ~Rig() {
    fastretina_transform_destroy(transform);
    fastretina_prepared_destroy(prepared);
    fastretina_session_destroy(session);
    fastretina_model_destroy(model);
  }
  fastretina_error prepare(const fastretina_image& image) { return fastretina_prepare(session, &image, prepared); }
  fastretina_error run(const fastretina_image& image) {
    return fastretina_register(session, prepared, &image, transform, &result);
  }
};

Options core_options() {
  Options options;
  options.features.image.working_size = kWidth;
  options.features.detect.max_keypoints = 300;
  return options;
}

void gives_the_bits_of_the_core() {
  Session core(std::make_shared<FilterNetwork>(), core_options(), 1);
  Prepared prepared;
  core.prepare(fixed_photo.image(), prepared);
  const Candidate& expected = core.register_pair(prepared, moving_photo.image()).best;
  CHECK(expected.found);

  Rig rig;
  CHECK(rig.prepare(image_of(fixed_photo)) == FASTRETINA_SUCCESS);
  CHECK(rig.run(image_of(moving_photo)) == FASTRETINA_SUCCESS);
  double p[12];
  std::size_t count = 0;
  CHECK(fastretina_transform_parameters(rig.transform, p, 12, &count) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_kind(rig.transform) == static_cast<fastretina_kind>(expected.T_fixed_moving.kind));
  CHECK(count == (expected.T_fixed_moving.kind == TransformKind::quadratic ? 12 : 9));
  for (std::size_t i = 0; i < count; ++i) CHECK(p[i] == expected.T_fixed_moving.p[i]);
  CHECK(rig.result.confidence == expected.quality.confidence && rig.result.inliers == expected.measured.inliers);
  CHECK(rig.result.status == static_cast<fastretina_status>(expected.quality.status) &&
        rig.result.matches == expected.measured.matches);

  double xy[2] = {100, 90};
  CHECK(fastretina_transform_points(rig.transform, xy, 1, xy) == FASTRETINA_SUCCESS);
  const Point truth = apply(shifted(12.5, -7.25, 0.03), {100, 90});
  CHECK(std::hypot(xy[0] - truth.x, xy[1] - truth.y) < 0.5);
}

void warps_as_the_core_does() {
  Rig rig;
  CHECK(rig.prepare(image_of(fixed_photo)) == FASTRETINA_SUCCESS &&
        rig.run(image_of(moving_photo)) == FASTRETINA_SUCCESS);
  std::vector<std::uint8_t> out(kWidth * kHeight), valid(out.size()), expected(out.size()), expected_valid(out.size());
  const fastretina_image moving = image_of(moving_photo);
  const fastretina_mutable_image target{out.data(), kWidth, kWidth, kHeight, FASTRETINA_GRAY_U8};
  CHECK(fastretina_warp(rig.session, &moving, rig.transform, FASTRETINA_LINEAR, &target, valid.data(), kWidth) ==
        FASTRETINA_SUCCESS);

  Transform map;
  std::size_t count = 0;
  map.kind = static_cast<TransformKind>(fastretina_transform_kind(rig.transform));
  CHECK(fastretina_transform_parameters(rig.transform, map.p, 12, &count) == FASTRETINA_SUCCESS);
  Workspace workspace;
  cpu::warp(Context(1), workspace, moving_photo.image(), map, {Interpolation::linear},
            {expected.data(), kWidth, kHeight, 1, kWidth, PixelType::u8}, {expected_valid.data(), kWidth, kHeight});
  CHECK(out == expected && valid == expected_valid);
  CHECK(fastretina_warp(rig.session, &moving, rig.transform, FASTRETINA_LINEAR, &target, nullptr, 0) ==
        FASTRETINA_SUCCESS);
  CHECK(out == expected);

  fastretina_mutable_image colour = target;
  colour.format = FASTRETINA_RGB_U8;
  colour.width /= 3;
  CHECK(fastretina_warp(rig.session, &moving, rig.transform, FASTRETINA_LINEAR, &colour, nullptr, 0) ==
        FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_warp(rig.session, &moving, rig.transform, 7, &target, nullptr, 0) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_warp(rig.session, &moving, rig.transform, FASTRETINA_LINEAR, &target, valid.data(), 5) ==
        FASTRETINA_INVALID_ARGUMENT);
  CHECK(last_error_says("valid_row_bytes"));
}

void a_bad_frame_is_a_refusal_and_the_next_one_works() {
  Rig rig;
  const std::vector<std::uint8_t> zeros(kWidth * kHeight, 0);
  const fastretina_image black{zeros.data(), kWidth, kWidth, kHeight, FASTRETINA_GRAY_U8};
  CHECK(rig.prepare(image_of(fixed_photo)) == FASTRETINA_SUCCESS);
  CHECK(rig.run(image_of(moving_photo)) == FASTRETINA_SUCCESS);
  const double confidence = rig.result.confidence;
  CHECK(rig.run(black) == FASTRETINA_SUCCESS);
  CHECK(rig.result.status == FASTRETINA_STATUS_NO_CONTENT && rig.result.confidence == 0);
  CHECK(fastretina_transform_kind(rig.transform) == FASTRETINA_EMPTY);
  double xy[2] = {0, 0};
  CHECK(fastretina_transform_points(rig.transform, xy, 1, xy) == FASTRETINA_INVALID_ARGUMENT &&
        last_error_says("empty"));
  CHECK(rig.run(image_of(moving_photo)) == FASTRETINA_SUCCESS && rig.result.confidence == confidence);
}

void handles_end_in_any_order() {
  FilterEngine engine;
  fastretina_model* model = load(engine);
  fastretina_session *first = nullptr, *second = nullptr;
  fastretina_prepared* prepared = nullptr;
  const fastretina_options options = filter_options();
  CHECK(fastretina_session_create(model, &options, &first) == FASTRETINA_SUCCESS);
  CHECK(fastretina_session_create(model, nullptr, &second) == FASTRETINA_SUCCESS);
  CHECK(fastretina_prepared_create(&prepared) == FASTRETINA_SUCCESS);
  fastretina_model_destroy(model);
  CHECK(engine.opened == 2 && engine.released == 0);
  const fastretina_image image = image_of(fixed_photo);
  CHECK(fastretina_prepare(first, &image, prepared) == FASTRETINA_SUCCESS);
  fastretina_session_destroy(first);
  CHECK(engine.closed == 1 && engine.released == 0);
  fastretina_session_destroy(second);
  CHECK(engine.closed == 2 && engine.released == 1);
  fastretina_prepared_destroy(prepared);
  fastretina_model_destroy(nullptr);
  fastretina_session_destroy(nullptr);
  fastretina_prepared_destroy(nullptr);
  fastretina_transform_destroy(nullptr);
}

void images_that_are_none_are_told() {
  Rig rig;
  const auto refused = [&](fastretina_image image, const char* words) {
    CHECK(rig.prepare(image) == FASTRETINA_INVALID_ARGUMENT);
    CHECK(last_error_says("image") && last_error_says(words));
    CHECK(rig.run(image) == FASTRETINA_INVALID_ARGUMENT);  // `prepared` is empty after a failure
  };
  const fastretina_image good = image_of(fixed_photo);
  fastretina_image bad = good;
  bad.data = nullptr;
  refused(bad, "NULL");
  bad = good, bad.format = 6;
  refused(bad, "format");
  bad = good, bad.width = 0;
  refused(bad, "width");
  bad = good, bad.height = -1;
  refused(bad, "height");
  bad = good, bad.row_bytes = kWidth - 1;
  refused(bad, "row_bytes");
  bad = good, bad.row_bytes = std::numeric_limits<std::int64_t>::max();
  refused(bad, "row_bytes");
  bad = good, bad.height = 63;
  refused(bad, "64");
  bad = good, bad.format = FASTRETINA_GRAY_U16, bad.width = 100, bad.row_bytes = 200;
  bad.data = fixed_photo.pixels.data() + 1;
  refused(bad, "unaligned");
  std::vector<float> nan(100 * 100, std::nanf(""));
  refused({nan.data(), 400, 100, 100, FASTRETINA_GRAY_F32}, "NaN");
  CHECK(rig.prepare(good) == FASTRETINA_SUCCESS);
}

void other_misuse_is_told() {
  Rig rig, other;
  const fastretina_image image = image_of(fixed_photo);
  CHECK(rig.run(image) == FASTRETINA_INVALID_ARGUMENT && last_error_says("fixed: got one that is empty"));
  CHECK(other.prepare(image) == FASTRETINA_SUCCESS && rig.prepare(image) == FASTRETINA_SUCCESS);
  CHECK(fastretina_register_prepared(rig.session, rig.prepared, other.prepared, rig.transform, &rig.result) ==
        FASTRETINA_INVALID_ARGUMENT);
  CHECK(last_error_says("moving") && last_error_says("another session"));
  CHECK(fastretina_register_prepared(rig.session, rig.prepared, rig.prepared, rig.transform, &rig.result) ==
        FASTRETINA_SUCCESS);
  CHECK(fastretina_register(nullptr, rig.prepared, &image, rig.transform, &rig.result) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_register(rig.session, nullptr, &image, rig.transform, &rig.result) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_register(rig.session, rig.prepared, nullptr, rig.transform, &rig.result) ==
        FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_register(rig.session, rig.prepared, &image, nullptr, &rig.result) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_register(rig.session, rig.prepared, &image, rig.transform, nullptr) == FASTRETINA_INVALID_ARGUMENT);
  rig.result.struct_size = 0;
  CHECK(rig.run(image) == FASTRETINA_INVALID_ARGUMENT && last_error_says("struct_size"));
}

void options_out_of_range_are_told() {
  Rig rig;
  const auto refused = [&](auto set, const char* name) {
    fastretina_options options = filter_options();
    set(options);
    fastretina_session* session = nullptr;
    CHECK(fastretina_session_create(rig.model, &options, &session) == FASTRETINA_INVALID_ARGUMENT);
    CHECK(session == nullptr && last_error_says(name));
  };
  refused([](auto& o) { o.threads = 0; }, "threads");
  refused([](auto& o) { o.threads = 1025; }, "threads");
  refused([](auto& o) { o.working_size = 63; }, "working_size");
  refused([](auto& o) { o.max_keypoints = 65537; }, "max_keypoints");
  refused([](auto& o) { o.transform = FASTRETINA_EMPTY; }, "transform");
  refused([](auto& o) { o.transform = FASTRETINA_COMPOSITE; }, "transform");
  refused([](auto& o) { o.max_attempts = 0; }, "max_attempts");
  refused([](auto& o) { o.min_confidence = std::nan(""); }, "min_confidence");
  refused([](auto& o) { o.struct_size = 3; }, "struct_size");
  refused([](auto& o) { o.struct_size = 0xFFFFFFFF; }, "struct_size");
  CHECK(rig.engine.opened == 1);
}

// A struct of a newer header: what this library does not know must not be set.
void newer_structs_are_understood_as_far_as_they_go() {
  struct Newer {
    fastretina_options options;
    double more;
  } newer{filter_options(), 0};
  newer.options.struct_size = sizeof newer;
  Rig rig;
  fastretina_session* session = nullptr;
  CHECK(fastretina_session_create(rig.model, &newer.options, &session) == FASTRETINA_SUCCESS);
  fastretina_session_destroy(session);
  newer.more = 1;
  CHECK(fastretina_session_create(rig.model, &newer.options, &session) == FASTRETINA_INVALID_ARGUMENT &&
        last_error_says("newer"));
}

void an_engine_that_fails_is_told_with_its_own_words() {
  Rig rig;
  CHECK(rig.prepare(image_of(fixed_photo)) == FASTRETINA_SUCCESS);
  rig.engine.broken = true;
  CHECK(rig.run(image_of(moving_photo)) == FASTRETINA_ENGINE_ERROR && last_error_says("filters") &&
        last_error_says("on fire"));
  rig.engine.broken = false;
  CHECK(rig.run(image_of(moving_photo)) == FASTRETINA_SUCCESS && rig.result.attempts > 0);

  rig.engine.dims = 7;
  fastretina_session* session = nullptr;
  CHECK(fastretina_session_create(rig.model, nullptr, &session) == FASTRETINA_ENGINE_ERROR &&
        last_error_says("expected 64"));
  rig.engine.dims = 64;
}

void the_cpp_layer_is_the_same() {
  FilterEngine engine;
  {
    const fastretina_engine callbacks = engine.callbacks();
    try {
      v1::Model("/nowhere/none.toml", callbacks);
      CHECK(false);
    } catch (const v1::Error& error) {
      CHECK(error.code() == FASTRETINA_ENGINE_ERROR &&
            std::string(error.what()).find("/nowhere/none.toml") != std::string::npos);
    }
    CHECK(engine.released == 1);  // a load that fails takes the engine over, too
  }
  v1::Transform t = v1::Transform::from_json(R"({"kind": "affine", "parameters": [[2, 0, 1], [0, 3, -1], [0, 0, 1]]})");
  CHECK(t(1, 1)[0] == 3 && t(1, 1)[1] == 2 && t.kind() == FASTRETINA_AFFINE && t.parameters().size() == 9);
  CHECK(v1::Transform::from_json(t.to_json()).parameters() == t.parameters());
  CHECK(t.inverse()(3, 2)[0] == 1 && v1::Transform().kind() == FASTRETINA_EMPTY);
}

}  // namespace

int main() {
  CHECK(fastretina_abi_version() == FASTRETINA_ABI_VERSION && std::strlen(fastretina_version()) >= 5);
  CHECK(std::string(fastretina_status_name(0)) == "ok" && std::string(fastretina_status_name(99)) == "unknown");
  gives_the_bits_of_the_core();
  warps_as_the_core_does();
  a_bad_frame_is_a_refusal_and_the_next_one_works();
  handles_end_in_any_order();
  images_that_are_none_are_told();
  other_misuse_is_told();
  options_out_of_range_are_told();
  newer_structs_are_understood_as_far_as_they_go();
  an_engine_that_fails_is_told_with_its_own_words();
  the_cpp_layer_is_the_same();
  return 0;
}
