#include "core/context.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace fastretina {
namespace {

// Workers sleep between jobs. Chunks are handed out by an atomic counter: it decides who computes a chunk, never what
// the chunk is.
class Workers {
 public:
  explicit Workers(int count) {
    try {
      for (int slot = 1; slot <= count; ++slot) threads_.emplace_back([this, slot] { work(slot); });
    } catch (...) {  // no further thread was to be had: a joinable one must not be destroyed
      end();
      throw;
    }
  }
  ~Workers() { end(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void run(int n, int grain, void* body, void (*call)(void*, int, int, int)) {
    {
      std::lock_guard lock(mutex_);
      n_ = n;
      grain_ = grain;
      body_ = body;
      call_ = call;
      next_ = 0;
      error_ = nullptr;
      active_ = static_cast<int>(threads_.size());
      ++job_;
    }
    wake_.notify_all();
    drain(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // The counter passes n by up to a grain a thread: 64 bits hold that for every n.
  void drain(int slot) {
    for (;;) {
      const std::int64_t begin = next_.fetch_add(grain_);
      if (begin >= n_) return;
      try {
        call_(body_, static_cast<int>(begin), static_cast<int>(std::min(begin + grain_, n_)), slot);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
    }
  }

  void work(int slot) {
    long seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || job_ != seen; });
        if (stop_) return;
        seen = job_;
      }
      drain(slot);
      std::lock_guard lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  void end() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void* body_ = nullptr;
  void (*call_)(void*, int, int, int) = nullptr;
  std::atomic<std::int64_t> next_{0};
  std::exception_ptr error_;
  std::int64_t n_ = 0, grain_ = 1;
  int active_ = 0;
  long job_ = 0;
  bool stop_ = false;
};

// Threads do not survive fork(): a child would wait for workers that it does not have.
long process_id() {
#ifdef _WIN32
  return 0;  // there is no fork
#else
  return static_cast<long>(::getpid());
#endif
}

}  // namespace

// The workers of the process that asks.
class ThreadPool {
 public:
  explicit ThreadPool(int workers)
      : count_(workers), workers_(std::make_unique<Workers>(workers)), process_(process_id()) {}
  ~ThreadPool() {
    if (process_ != process_id()) abandon();
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  Workers& workers() {
    if (process_ != process_id()) abandon();
    if (!workers_) {
      workers_ = std::make_unique<Workers>(count_);
      process_ = process_id();
    }
    return *workers_;
  }

 private:
  // Leaked on purpose: nothing of it can be used or destroyed here. Its threads cannot be joined, and the fork may have
  // caught one of them with the mutex in its hands.
  void abandon() { static_cast<void>(workers_.release()); }

  int count_;
  std::unique_ptr<Workers> workers_;
  long process_;
};

Context::Context(int threads)
    : threads_(threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {
  if (threads_ > 1) pool_ = std::make_unique<ThreadPool>(threads_ - 1);
}
Context::~Context() = default;
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;

void Context::run(int n, int grain, void* body, Erased call) const {
  grain = std::max(1, grain);
  if (pool_ && n > grain) {
    pool_->workers().run(n, grain, body, call);
    return;
  }
  for (std::int64_t begin = 0; begin < n; begin += grain)
    call(body, static_cast<int>(begin), static_cast<int>(std::min<std::int64_t>(begin + grain, n)), 0);
}

}  // namespace fastretina
