// Loads the shipped model, registers a frame to the reference and warps it; prints the transform.
//   consume MANIFEST FOLDER
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "fastretina.hpp"
#include "fastretina_openvino.h"
#include "frames.h"

namespace fr = fastretina::v1;

namespace {

void expect(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "consume: expected %s\n", what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) try {
  expect(argc == 3, "two arguments: MANIFEST FOLDER");
  expect(fastretina_abi_version() == FASTRETINA_ABI_VERSION, "the ABI version of the header");
  fastretina_engine engine;
  fr::check(fastretina_openvino_engine(&engine));
  const fr::Model model(argv[1], engine, FASTRETINA_PRECISION_F32);
  expect(std::string(model.describe().name) == "retina", "the network retina");
  fr::Session session(model);

  const auto paths = frames_in(argv[2]);
  const Frame fixed = read_pgm(paths[0]), moving = read_pgm(paths[1]);
  fr::Prepared reference;
  session.prepare(fixed.image(), reference);
  fr::Transform transform;
  const fastretina_result result = session.register_frame(reference, moving.image(), transform);
  expect(result.status == FASTRETINA_STATUS_OK && result.confidence > 0.9, "a pair that registers");
  expect(fr::Transform::from_json(transform.to_json()).parameters() == transform.parameters(),
         "JSON that keeps every bit");

  std::vector<std::uint8_t> warped(fixed.pixels.size()), valid(fixed.pixels.size());
  session.warp(moving.image(), transform, {warped.data(), fixed.width, fixed.width, fixed.height, FASTRETINA_GRAY_U8},
               valid.data());
  double difference = 0, unwarped = 0;
  for (std::size_t i = 0; i < warped.size(); ++i) {
    difference += valid[i] * std::abs(warped[i] - fixed.pixels[i]);
    unwarped += valid[i] * std::abs(moving.pixels[i] - fixed.pixels[i]);
  }
  expect(difference < 0.5 * unwarped, "a warped frame that lies on the reference");
  std::printf("%s\n", transform.to_json().c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "consume: %s\n", error.what());
  return 1;
}
