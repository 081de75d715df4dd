// Grow-only scratch memory. A room asks for buffers inside a Frame; the memory is handed out stack-wise and returns when
// the Frame ends. After the first call with the largest input nothing allocates.
//
// The memory is the host's, or a device's (core/cuda.h): then the rooms of one stream share it, in the stream's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/types.h"

namespace fastretina {

// Where a Workspace gets its blocks. allocate() throws where there is no more.
struct MemorySource {
  void* (*allocate)(std::size_t bytes);
  void (*release)(void* memory) noexcept;
};
MemorySource host_memory();

class Workspace {
 public:
  explicit Workspace(const MemorySource& source = host_memory()) : source_(source) {}
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // 64-byte aligned, uninitialised, valid until the enclosing Frame ends.
  template <class T>
  T* take(std::size_t count) {
    return static_cast<T*>(take_bytes(count * sizeof(T)));
  }
  template <class T>
  View<T> take_plane(int width, int height) {
    return {take<T>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height)), width, height};
  }

  std::size_t capacity_bytes() const;  // held, or to be held from the next take on

  class Frame {
   public:
    explicit Frame(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Frame() { workspace_.release(block_, used_); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Workspace& workspace_;
    std::size_t block_, used_;
  };

 private:
  struct Block {
    std::unique_ptr<void, void (*)(void*) noexcept> memory;
    std::size_t size = 0;
  };
  void* take_bytes(std::size_t bytes);
  void release(std::size_t block, std::size_t used) noexcept;

  MemorySource source_;
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // the block in use
  std::size_t used_ = 0;   // bytes used of it
  std::size_t merged_ = 0; // size of the block that is to replace those that release() dropped
};

}  // namespace fastretina
