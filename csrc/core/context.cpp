#include "core/context.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace fastretina {

// Workers sleep between jobs. Chunks are handed out by an atomic counter: it decides who computes a chunk, never what
// the chunk is.
class ThreadPool {
 public:
  explicit ThreadPool(int workers) {
    for (int slot = 1; slot <= workers; ++slot) threads_.emplace_back([this, slot] { work(slot); });
  }
  ~ThreadPool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

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
  void drain(int slot) {
    for (;;) {
      const int begin = next_.fetch_add(grain_);
      if (begin >= n_) return;
      try {
        call_(body_, begin, std::min(begin + grain_, n_), slot);
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

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void* body_ = nullptr;
  void (*call_)(void*, int, int, int) = nullptr;
  std::atomic<int> next_{0};
  std::exception_ptr error_;
  int n_ = 0, grain_ = 1, active_ = 0;
  long job_ = 0;
  bool stop_ = false;
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
    pool_->run(n, grain, body, call);
    return;
  }
  for (int begin = 0; begin < n; begin += grain) call(body, begin, std::min(begin + grain, n), 0);
}

}  // namespace fastretina
