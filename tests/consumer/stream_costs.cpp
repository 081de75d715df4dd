// What a frame of a live stream costs after warm-up: calls of the allocator (ours, and the inference engine's, told
// apart), growth of resident memory, time.
//   stream_costs MANIFEST FOLDER FRAMES [PRECISION [THREADS]]
// Prints JSON. Exit status 1 if anything but the engine allocated. Times and memory are for a reader: a machine may be
// busy.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <vector>

#include "fastretina.hpp"
#include "fastretina_openvino.h"
#include "frames.h"
#include "marked_engine.h"

namespace fr = fastretina::v1;

namespace {

std::atomic<bool> in_engine{false};
std::atomic<long> ours{0}, engines{0};

void count() { ++(in_engine ? engines : ours); }

}  // namespace

// The C library's allocator, of which operator new is a user: counted, and passed on to glibc's own names for it.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t number, std::size_t bytes) {
  count();
  return __libc_calloc(number, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  count();
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t align, std::size_t bytes) {
  count();
  return __libc_memalign(align, bytes);
}
int posix_memalign(void** memory, std::size_t align, std::size_t bytes) {
  count();
  *memory = __libc_memalign(align, bytes);
  return *memory == nullptr ? 12 : 0;  // ENOMEM
}
}

namespace {

long resident_kib() {
  long total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of all threads: what the frame costs, however busy the machine is.
double cpu_ms() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

struct Spread {
  double median, p99;
};
Spread spread(std::vector<double>& ms) {
  std::sort(ms.begin(), ms.end());
  return {ms[ms.size() / 2], ms[ms.size() * 99 / 100]};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) throw std::invalid_argument("usage: stream_costs MANIFEST FOLDER FRAMES [PRECISION [THREADS]]");
  const auto count_of_frames = static_cast<std::size_t>(std::max(1, std::atoi(argv[3])));
  std::vector<Frame> frames;
  for (const auto& path : frames_in(argv[2])) frames.push_back(read_pgm(path));

  const double begin = now_ms();
  Marked openvino{{}, [](bool inside) { in_engine = inside; }};
  fr::check(fastretina_openvino_engine(&openvino.inner));
  const fr::Model model(argv[1], marked(openvino), precision_of(argc > 4 ? argv[4] : "auto"));
  fastretina_options options = fr::default_options();
  options.threads = argc > 5 ? std::atoi(argv[5]) : 1;
  options.max_attempts = 1;
  fr::Session session(model, options);
  fr::Prepared reference;
  session.prepare(frames[0].image(), reference);
  fr::Transform transform;
  std::vector<double> wall(count_of_frames), cpu(count_of_frames);
  const auto show = [&](std::size_t i) {
    return session.register_frame(reference, frames[1 + i % (frames.size() - 1)].image(), transform);
  };
  const bool first_ok = show(0).status == FASTRETINA_STATUS_OK;
  const double first_pair_ms = now_ms() - begin;
  for (std::size_t i = 1; i < frames.size(); ++i) show(i);  // warm-up: every frame of the folder once

  const long ours_before = ours, engines_before = engines, kib_before = resident_kib();
  const long ours_by_reading = ours - ours_before;  // of resident_kib() itself: it opens a file
  std::size_t refused = 0;
  for (std::size_t i = 0; i < count_of_frames; ++i) {
    const double start = now_ms(), cpu_start = cpu_ms();
    refused += show(i).status != FASTRETINA_STATUS_OK;
    wall[i] = now_ms() - start;
    cpu[i] = cpu_ms() - cpu_start;
  }
  const long ours_after = ours - ours_by_reading, engines_after = engines, kib_after = resident_kib();
  const Spread w = spread(wall), c = spread(cpu);
  std::printf(
      "{\"frames\": %zu, \"refused\": %zu, \"precision\": %d, \"threads\": %d, \"our_allocations\": %ld, "
      "\"engine_allocations_per_frame\": %.1f, \"resident_kib\": %ld, \"resident_growth_kib\": %ld, "
      "\"wall_ms\": {\"median\": %.2f, \"p99\": %.2f, \"ratio\": %.3f}, "
      "\"cpu_ms\": {\"median\": %.2f, \"p99\": %.2f, \"ratio\": %.3f}, \"start_to_first_result_ms\": %.0f}\n",
      wall.size(), refused, model.describe().precision, options.threads, ours_after - ours_before,
      static_cast<double>(engines_after - engines_before) / static_cast<double>(wall.size()), kib_after,
      kib_after - kib_before, w.median, w.p99, w.p99 / w.median, c.median, c.p99, c.p99 / c.median, first_pair_ms);
  return first_ok && ours_after == ours_before ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "stream_costs: %s\n", error.what());
  return 1;
}
