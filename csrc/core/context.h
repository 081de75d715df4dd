// Where and how a room runs: how many threads, or which stream. A Context belongs to one session, hence to one thread.
//
// parallel_for cuts [0, n) into chunks of `grain`; the cut depends on n and grain only, never on the number of threads,
// so a room that combines chunk results in chunk order gives the same bits for 1...N threads.
//
// After fork() the child has none of its parent's threads: the first parallel_for there starts its own. A fork while
// another thread is inside a room leaves that room's Context and Workspace unusable in the child.
#pragma once

#include <memory>
#include <type_traits>

namespace fastretina {

class ThreadPool;

class Context {
 public:
  explicit Context(int threads = 1);  // 0: as many as the machine has cores
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  int threads() const { return threads_; }
  void* stream = nullptr;  // CUDA twins only: the caller's stream

  // Calls body(begin, end, slot) for every chunk; slot in [0, threads()) tells which scratch the chunk may use.
  // An exception from a chunk is rethrown here. Allocates nothing (but threads, once, after fork()).
  template <class Body>
  void parallel_for(int n, int grain, Body&& body) const {
    using Plain = std::remove_reference_t<Body>;
    run(n, grain, const_cast<void*>(static_cast<const void*>(&body)),
        [](void* erased, int begin, int end, int slot) { (*static_cast<Plain*>(erased))(begin, end, slot); });
  }

 private:
  using Erased = void (*)(void* body, int begin, int end, int slot);
  void run(int n, int grain, void* body, Erased call) const;

  int threads_ = 1;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace fastretina
