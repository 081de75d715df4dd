#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

constexpr std::size_t kStackBytes = 64 * 1024;
constexpr int kWarp = 32, kMostThreads = 1024;

enum class State { ready, at_warp, at_block, done };

// ucontext begins a fiber; after that jumps switch, which make no system call. AddressSanitizer follows contexts only.
struct Place {
  ucontext_t context;
  jmp_buf jump;
};

struct Fiber {
  Place place;
  std::unique_ptr<char[]> stack;
  State state = State::done;
  dim3 index;
  void* fake_stack = nullptr;
  bool begun = false;
};

struct Block {
  std::vector<Fiber> fibers{kMostThreads};
  Place scheduler;
  int count = 0, running = 0;
  const std::function<void()>* kernel = nullptr;
  alignas(64) std::byte slots[kMostThreads][64];
  int votes = 0, last_votes = 0;
};

Block& block() {
  static Block* const one = new Block;  // never destroyed: fibers may be in it
  return *one;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kFibersStay = false;
const void* scheduler_stack = nullptr;
std::size_t scheduler_size = 0;

void to_scheduler(State state) {
  Block& b = block();
  Fiber& own = b.fibers[static_cast<std::size_t>(b.running)];
  own.state = state;
  __sanitizer_start_switch_fiber(state == State::done ? nullptr : &own.fake_stack, scheduler_stack, scheduler_size);
  swapcontext(&own.place.context, &b.scheduler.context);
  __sanitizer_finish_switch_fiber(own.fake_stack, nullptr, nullptr);
}
void begun() { __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size); }
void enter(Fiber& fiber) {
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStackBytes);
  swapcontext(&block().scheduler.context, &fiber.place.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
#else
constexpr bool kFibersStay = true;  // one that has done a kernel goes on with the next

void to_scheduler(State state) {
  Block& b = block();
  Fiber& own = b.fibers[static_cast<std::size_t>(b.running)];
  own.state = state;
  if (_setjmp(own.place.jump) == 0) _longjmp(b.scheduler.jump, 1);
}
void begun() {}
void enter(Fiber& fiber) {
  if (_setjmp(block().scheduler.jump) != 0) return;
  if (std::exchange(fiber.begun, true)) _longjmp(fiber.place.jump, 1);
  setcontext(&fiber.place.context);
}
#endif

void fiber_main() {
  begun();
  for (;;) {
    (*block().kernel)();
    to_scheduler(State::done);
  }
}

void resume(int i) {
  Block& b = block();
  Fiber& fiber = b.fibers[static_cast<std::size_t>(i)];
  b.running = i;
  threadIdx = fiber.index;
  enter(fiber);
}

// Frees those that wait for one another in [begin, end). False where one of them is elsewhere.
bool release(int begin, int end, State waiting) {
  Block& b = block();
  bool any = false;
  for (int i = begin; i < end; ++i) {
    const State s = b.fibers[static_cast<std::size_t>(i)].state;
    if (s != State::done && s != waiting) return false;
    any = any || s == waiting;
  }
  for (int i = begin; i < end; ++i)
    if (b.fibers[static_cast<std::size_t>(i)].state == waiting)
      b.fibers[static_cast<std::size_t>(i)].state = State::ready;
  return any;
}

void run_block(dim3 size, const std::function<void()>& kernel) {
  Block& b = block();
  b.count = static_cast<int>(size.x * size.y * size.z);
  b.kernel = &kernel;
  for (int i = 0; i < b.count; ++i) {
    Fiber& f = b.fibers[static_cast<std::size_t>(i)];
    const auto at = static_cast<unsigned>(i);
    f.index = dim3(at % size.x, at / size.x % size.y, at / size.x / size.y);
    f.state = State::ready;
    if (f.stack && kFibersStay) continue;
    if (!f.stack) f.stack.reset(new char[kStackBytes]);
    f.fake_stack = nullptr;
    ucontext_t& start = f.place.context;
    getcontext(&start);
    start.uc_stack.ss_sp = f.stack.get();
    start.uc_stack.ss_size = kStackBytes;
    start.uc_link = nullptr;
    makecontext(&start, fiber_main, 0);
  }
  for (;;) {
    bool alive = false, moved = false;
    for (int warp = 0; warp < b.count; warp += kWarp) {
      const int end = std::min(warp + kWarp, b.count);
      do {
        for (int i = warp; i < end; ++i)
          if (b.fibers[static_cast<std::size_t>(i)].state == State::ready) resume(i), moved = true;
      } while (release(warp, end, State::at_warp));
      for (int i = warp; i < end; ++i) alive = alive || b.fibers[static_cast<std::size_t>(i)].state != State::done;
    }
    if (!alive) return;
    if (release(0, b.count, State::at_block)) {
      b.last_votes = std::exchange(b.votes, 0);
      continue;
    }
    if (!moved) {
      std::fprintf(stderr, "emulation: block (%u, %u, %u): a barrier that not all threads reach\n", blockIdx.x,
                   blockIdx.y, blockIdx.z);
      std::abort();
    }
  }
}

}  // namespace

int lane() { return block().running % kWarp; }
std::byte* warp_slot(int lane_) { return block().slots[block().running / kWarp * kWarp + lane_]; }
void block_barrier() { to_scheduler(State::at_block); }
void warp_barrier() { to_scheduler(State::at_warp); }

void run(dim3 grid, dim3 size, const std::function<void()>& kernel) {
  if (size.x * size.y * size.z > kMostThreads) std::abort();
  gridDim = grid, blockDim = size;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block(size, kernel);
      }
}

struct Graph {
  std::vector<std::function<void()>> work;
};
struct Stream {
  std::unique_ptr<Graph> capture;
};

namespace {
int captures = 0;
}

cudaError_t enqueue(Stream* stream, std::function<void()> work) {
  if (stream && stream != cudaStreamLegacy && stream != cudaStreamPerThread && stream->capture)
    stream->capture->work.push_back(std::move(work));
  else
    work();
  return cudaSuccess;
}

}  // namespace emulation

using namespace emulation;

unsigned __ballot_sync(unsigned, int predicate) {
  Block& b = block();
  const int first = b.running / kWarp * kWarp, end = std::min(first + kWarp, b.count);
  *warp_slot(lane()) = static_cast<std::byte>(predicate != 0);
  warp_barrier();
  unsigned result = 0;
  for (int i = first; i < end; ++i)
    if (b.fibers[static_cast<std::size_t>(i)].state != State::done && b.slots[i][0] == std::byte{1})
      result |= 1u << (i - first);
  warp_barrier();
  return result;
}

int __syncthreads_count(int predicate) {
  block().votes += predicate != 0;
  block_barrier();
  return block().last_votes;
}

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess                 ? "no error"
         : status == cudaErrorMemoryAllocation ? "out of memory"
         : status == cudaErrorNoDevice         ? "no CUDA-capable device is detected"
                                               : "not permitted while a stream is captured";
}
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0, cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (captures > 0) return cudaErrorStreamCaptureUnsupported;
  *memory = std::malloc(bytes);
  if (!*memory) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xCD, bytes);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return cudaMallocHost(memory, bytes); }
cudaError_t cudaFree(void* memory) {
  if (captures > 0) return cudaErrorStreamCaptureUnsupported;
  return std::free(memory), cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
// Memory in a stream's order, and events: work is done when it is queued.
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t) { return cudaMallocHost(memory, bytes); }
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void*) {
  return *attributes = {cudaMemoryTypeDevice, 0}, cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return captures > 0 ? cudaErrorStreamCaptureUnsupported : cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(memory, value, bytes); });
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = new Stream, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return captures > 0 ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  ++captures;
  stream->capture = std::make_unique<Graph>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  --captures;
  *graph = stream->capture.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return *executable = new Graph(*graph), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return enqueue(stream, [=] {
    for (const auto& work : executable->work) work();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return delete executable, cudaSuccess; }
