// One model, eight sessions on eight threads: no race (under ThreadSanitizer), and everywhere the same bits.
#include <thread>
#include <vector>

#include "filter_engine.h"

using namespace fastretina;

namespace {

struct Answer {
  double p[12] = {}, confidence = 0;
  std::size_t count = 0;
};

void run(const fastretina_model* model, const fastretina_image& fixed, const fastretina_image& moving, Answer& answer) {
  fastretina_session* session = nullptr;
  fastretina_prepared* prepared = nullptr;
  fastretina_transform* transform = nullptr;
  fastretina_result result;
  fastretina_result_init(&result);
  const fastretina_options options = filter_options(2);
  CHECK(fastretina_session_create(model, &options, &session) == FASTRETINA_SUCCESS);
  CHECK(fastretina_prepared_create(&prepared) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_create(&transform) == FASTRETINA_SUCCESS);
  CHECK(fastretina_prepare(session, &fixed, prepared) == FASTRETINA_SUCCESS);
  for (int frame = 0; frame < 3; ++frame)
    CHECK(fastretina_register(session, prepared, &moving, transform, &result) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_parameters(transform, answer.p, 12, &answer.count) == FASTRETINA_SUCCESS);
  answer.confidence = result.confidence;
  CHECK(fastretina_register(session, prepared, nullptr, transform, &result) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(last_error_says("moving"));
  fastretina_transform_destroy(transform);
  fastretina_prepared_destroy(prepared);
  fastretina_session_destroy(session);
}

}  // namespace

int main() {
  const Scene scene(1);
  const Photograph fixed(scene, {}, kWidth, kHeight), moving(scene, shifted(9, -4, 0.02), kWidth, kHeight);
  FilterEngine engine;
  fastretina_model* model = load(engine);
  std::vector<Answer> answers(8);
  {
    std::vector<std::thread> threads;
    for (Answer& answer : answers) threads.emplace_back([&] { run(model, image_of(fixed), image_of(moving), answer); });
    for (std::thread& thread : threads) thread.join();
  }
  fastretina_model_destroy(model);
  CHECK(engine.opened == 8 && engine.closed == 8 && engine.released == 1);
  for (const Answer& answer : answers) {
    CHECK(answer.count > 0 && answer.count == answers[0].count && answer.confidence == answers[0].confidence);
    for (std::size_t i = 0; i < answer.count; ++i) CHECK(answer.p[i] == answers[0].p[i]);
  }
  return 0;
}
