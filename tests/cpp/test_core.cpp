// core: threads that end, fail or fork; scratch memory that runs out.
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "check.h"
#include "core/context.h"
#include "core/finite.h"
#include "core/workspace.h"

#ifndef _WIN32
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {
std::atomic<bool> memory_is_out{false};
}

// Not inlined: gcc 12 would see malloc and delete meet, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* memory = memory_is_out ? nullptr : std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// A sanitizer's own new[] would not come here.
[[gnu::noinline]] void* operator new[](std::size_t size) { return operator new(size); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace fastretina;

long sum_below(const Context& context, int n, int grain) {
  std::vector<long> sums(static_cast<std::size_t>(n / grain + 1));
  context.parallel_for(n, grain, [&](int begin, int end, int) {
    for (int i = begin; i < end; ++i) sums[static_cast<std::size_t>(begin / grain)] += i;
  });
  long sum = 0;
  for (const long s : sums) sum += s;
  return sum;
}

void every_chunk_runs_once() {
  for (const int threads : {1, 2, 3}) {
    const Context context(threads);
    for (const int n : {0, 1, 7, 1000}) CHECK(sum_below(context, n, 7) == long{n} * (n - 1) / 2);
    // The last chunk ends at the largest int, and the counter passes it.
    constexpr int kMost = std::numeric_limits<int>::max(), kGrain = 1 << 30;
    std::atomic<long> covered{0};
    std::atomic<int> chunks{0};
    context.parallel_for(kMost, kGrain, [&](int begin, int end, int) {
      CHECK(0 <= begin && begin < end);
      covered += end - begin;
      ++chunks;
    });
    CHECK(covered == kMost && chunks == 2);
  }
}

void an_exception_comes_back() {
  for (const int threads : {1, 3}) {
    const Context context(threads);
    bool caught = false;
    try {
      context.parallel_for(100, 1, [](int begin, int, int) {
        if (begin == 50) throw std::runtime_error("chunk 50");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught && sum_below(context, 1000, 7) == 499500);
  }
}

#ifndef _WIN32

// Runs `body` in a child, which fails if it takes a minute; true where it returned true.
template <class Body>
bool in_a_child(Body&& body) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// A sanitizer's run-time cannot start threads in a child that was forked while its own locks were held.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void a_forked_child_has_threads_again() {
  const Context before(3);
  auto* outlived = new Context(2);
  CHECK(sum_below(before, 1000, 7) == 499500);
  CHECK(in_a_child([&] {
    delete outlived;  // must not wait for threads that are not there
    const bool same = sum_below(before, 1000, 7) == 499500 && sum_below(before, 1000, 7) == 499500;
    return same && in_a_child([&] { return sum_below(before, 1000, 7) == 499500; });
  }));
  CHECK(sum_below(before, 1000, 7) == 499500 && sum_below(*outlived, 1000, 7) == 499500);
  delete outlived;
}
#else
void a_forked_child_has_threads_again() {}
#endif

// Sanitizers need far more address space than this allows.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void too_many_threads_are_an_exception() {
  CHECK(in_a_child([] {
    const rlimit limit{rlim_t{1} << 30, rlim_t{1} << 30};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
    try {
      const Context context(4096);
    } catch (const std::system_error&) {
      return sum_below(Context(2), 1000, 7) == 499500;
    }
    return false;
  }));
}
#else
void too_many_threads_are_an_exception() {}
#endif

#else
void a_forked_child_has_threads_again() {}
void too_many_threads_are_an_exception() {}
#endif

void workspace_merges_its_blocks_without_allocating() {
  constexpr std::size_t kMegabyte = std::size_t{1} << 20;
  Workspace workspace;
  {
    const Workspace::Frame frame(workspace);
    workspace.take<char>(kMegabyte);
    workspace.take<char>(3 * kMegabyte);
    memory_is_out = true;  // while the frame ends
  }
  memory_is_out = false;
  const std::size_t held = workspace.capacity_bytes();
  CHECK(held >= 4 * kMegabyte);
  {
    const Workspace::Frame frame(workspace);
    char* first = workspace.take<char>(kMegabyte);
    memory_is_out = true;  // one block holds both from now on
    char* second = workspace.take<char>(3 * kMegabyte);
    memory_is_out = false;
    CHECK(second == first + kMegabyte && workspace.capacity_bytes() == held);
    bool caught = false;
    memory_is_out = true;
    try {
      workspace.take<char>(64 * kMegabyte);
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    memory_is_out = false;
    CHECK(caught);
  }
  const Workspace::Frame frame(workspace);
  memory_is_out = true;
  workspace.take<char>(held);
  memory_is_out = false;
  CHECK(workspace.capacity_bytes() == held);
}

void finite_is_told_from_not_finite() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  const float largest = std::numeric_limits<float>::max();
  std::vector<float> values(37, -largest);
  CHECK(all_finite(values.data(), 0) && all_finite(values.data(), 37));
  for (const std::size_t at : {0u, 17u, 36u})
    for (const float wrong : {kInfinity, -kInfinity, kNan, -kNan}) {
      values[at] = wrong;
      CHECK(!all_finite(values.data(), 37));
      values[at] = largest;
    }
}

}  // namespace

int main() {
  every_chunk_runs_once();
  an_exception_comes_back();
  a_forked_child_has_threads_again();
  too_many_threads_are_an_exception();
  workspace_merges_its_blocks_without_allocating();
  finite_is_told_from_not_finite();
  return 0;
}
