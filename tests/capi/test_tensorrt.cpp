// The adapter to TensorRT over the stand-in for its headers: the filters' bits through device memory, and every file
// that is not what the manifest says refused.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "fastretina_tensorrt.h"
#include "filter_engine.h"

using namespace fastretina;

namespace {

const std::string kHash(64, '0'), kGood = "fastretina filters f32 " + kHash + "\n64 512\n";

// An engine file that is gone at the end of the scope.
struct File {
  std::string path = (std::filesystem::temp_directory_path() / "fastretina_test_tensorrt.engine").string();
  explicit File(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  ~File() { std::filesystem::remove(path); }
};

fastretina_error load(const std::string& text, const char* sha256, fastretina_engine* engine) {
  const File file(text);
  return fastretina_tensorrt_engine(file.path.c_str(), sha256, engine);
}

fastretina_error load_model(const fastretina_engine& engine, fastretina_precision precision, fastretina_model** model) {
  return fastretina_model_from_memory(kFilterManifest.data(), kFilterManifest.size(), nullptr, 0, precision, &engine,
                                      model);
}

// Takes the model over.
fastretina_result registered(fastretina_model* model, std::int32_t working_size = kWidth) {
  const Scene scene(1);
  const Photograph fixed(scene, {}, kWidth, kHeight), moving(scene, shifted(12.5, -7.25, 0.03), kWidth, kHeight);
  const fastretina_image fixed_image = image_of(fixed), moving_image = image_of(moving);
  fastretina_options options = filter_options();
  options.working_size = working_size;
  fastretina_session* session = nullptr;
  fastretina_prepared* prepared = nullptr;
  fastretina_transform* transform = nullptr;
  fastretina_result result;
  fastretina_result_init(&result);
  CHECK(fastretina_session_create(model, &options, &session) == FASTRETINA_SUCCESS);
  CHECK(fastretina_prepared_create(&prepared) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_create(&transform) == FASTRETINA_SUCCESS);
  if (fastretina_prepare(session, &fixed_image, prepared) == FASTRETINA_SUCCESS)
    CHECK(fastretina_register(session, prepared, &moving_image, transform, &result) == FASTRETINA_SUCCESS);
  fastretina_transform_destroy(transform);
  fastretina_prepared_destroy(prepared);
  fastretina_session_destroy(session);
  fastretina_model_destroy(model);
  return result;
}

void gives_the_bits_of_the_network_behind_it() {
  fastretina_engine engine;
  CHECK(load(kGood, kHash.c_str(), &engine) == FASTRETINA_SUCCESS);
  fastretina_model* model = nullptr;
  CHECK(load_model(engine, FASTRETINA_PRECISION_F32, &model) == FASTRETINA_SUCCESS);
  const fastretina_result got = registered(model);
  FilterEngine filters;
  const fastretina_result expected = registered(fastretina::load(filters));
  CHECK(got.status == expected.status && got.attempts == expected.attempts);
  CHECK(got.confidence == expected.confidence && got.inliers == expected.inliers && got.inliers > 20);
  CHECK(got.ridge_correlation == expected.ridge_correlation);
}

void foreign_and_broken_files_are_refused() {
  fastretina_engine engine;
  CHECK(fastretina_tensorrt_engine("/no/such.engine", nullptr, &engine) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("cannot be read") && last_error_says("remedy: fastretina engine build"));
  CHECK(load("", nullptr, &engine) == FASTRETINA_ENGINE_ERROR && last_error_says("is empty"));
  CHECK(load("noise\n", nullptr, &engine) == FASTRETINA_ENGINE_ERROR && last_error_says("of another version"));
  CHECK(load("resnet50\n64 512\n", nullptr, &engine) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("is no engine of fastretina"));
  CHECK(load(kGood, std::string(64, '1').c_str(), &engine) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("built from other weights of filters"));
  CHECK(fastretina_tensorrt_engine(nullptr, nullptr, &engine) == FASTRETINA_ENGINE_ERROR && last_error_says("NULL"));
  CHECK(fastretina_tensorrt_engine("x", nullptr, nullptr) == FASTRETINA_ENGINE_ERROR && last_error_says("NULL"));
}

void precision_and_network_are_those_of_the_file() {
  fastretina_engine engine;
  fastretina_model* model = nullptr;
  CHECK(load("fastretina filters bf16 " + kHash + "\n64 512\n", nullptr, &engine) == FASTRETINA_SUCCESS);
  CHECK(load_model(engine, FASTRETINA_PRECISION_F16, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("allowed: bf16"));
  for (const char* text : {"fastretina other f32 0\n64 512\n", "fastretina filters f32 0\n128 512\n"}) {
    CHECK(load(text, nullptr, &engine) == FASTRETINA_SUCCESS);
    CHECK(load_model(engine, FASTRETINA_PRECISION_F32, &model) == FASTRETINA_SUCCESS);
    fastretina_session* session = nullptr;
    CHECK(fastretina_session_create(model, nullptr, &session) == FASTRETINA_ENGINE_ERROR);
    CHECK(last_error_says("the manifest of filters") && session == nullptr);
    fastretina_model_destroy(model);
  }
}

void a_plane_that_the_engine_was_not_built_for() {
  fastretina_engine engine;
  fastretina_model* model = nullptr;
  CHECK(load("fastretina filters f32 0\n64 256\n", nullptr, &engine) == FASTRETINA_SUCCESS);
  CHECK(load_model(engine, FASTRETINA_PRECISION_F32, &model) == FASTRETINA_SUCCESS);
  registered(model);
  CHECK(last_error_says("288x320 is outside") && last_error_says("--max-size"));
}

}  // namespace

int main() {
  gives_the_bits_of_the_network_behind_it();
  foreign_and_broken_files_are_refused();
  precision_and_network_are_those_of_the_file();
  a_plane_that_the_engine_was_not_built_for();
  std::puts("tensorrt adapter: ok");
}
