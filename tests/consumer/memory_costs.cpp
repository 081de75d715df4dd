// What each stage keeps, for docs/EMBEDDING.md: bytes of the heap that are the library's, and the inference engine's.
//   memory_costs MANIFEST FOLDER [PRECISION]
#include <malloc.h>

#include <cstdio>
#include <cstdlib>

#include "fastretina.hpp"
#include "fastretina_openvino.h"
#include "frames.h"
#include "marked_engine.h"

namespace fr = fastretina::v1;

namespace {

std::size_t before_engine = 0, engines = 0;

std::size_t in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void mark(bool inside) {
  if (inside)
    before_engine = in_use();
  else
    engines += in_use() - before_engine;
}

struct Stages {
  std::size_t total = in_use(), engine = engines;
  void report(int working_size, const char* stage) {
    const std::size_t t = in_use(), e = engines;
    std::printf("%5d px  %-28s ours %8.2f MiB   engine %8.2f MiB\n", working_size, stage,
                static_cast<double>(static_cast<long>(t - total - (e - engine))) / 1048576,
                static_cast<double>(static_cast<long>(e - engine)) / 1048576);
    total = in_use();
    engine = engines;
  }
};

void one_size(const char* manifest, const Frame& fixed, const Frame& moving, const Frame& blurred,
              fastretina_precision precision, int size) {
  Stages stages;
  Marked openvino{{}, mark};
  mark(true);
  fr::check(fastretina_openvino_engine(&openvino.inner));
  mark(false);
  const fr::Model model(manifest, marked(openvino), precision);
  stages.report(size, "model");
  fastretina_options options = fr::default_options();
  options.working_size = size;
  fr::Session session(model, options);
  stages.report(size, "session");
  fr::Prepared reference, second;
  fr::Transform transform;
  session.prepare(fixed.image(), reference);
  for (int i = 0; i < 2; ++i) session.register_frame(reference, moving.image(), transform);
  stages.report(size, "stream, after two frames");
  session.prepare(fixed.image(), second);
  stages.report(size, "one more prepared image");
  for (int i = 0; i < 2; ++i) session.register_frame(reference, blurred.image(), transform);
  stages.report(size, "a pair that climbs the ladder");
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) throw std::invalid_argument("usage: memory_costs MANIFEST FOLDER [PRECISION]");
  mallopt(M_ARENA_MAX, 1);  // mallinfo2 sees one arena
  const auto paths = frames_in(argv[2]);
  const Frame fixed = read_pgm(paths[0]), moving = read_pgm(paths[1]), blurred = read_pgm(paths.at(11));
  for (const int size : {480, 640, 960})
    one_size(argv[1], fixed, moving, blurred, precision_of(argc > 3 ? argv[3] : "auto"), size);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "memory_costs: %s\n", error.what());
  return 1;
}
