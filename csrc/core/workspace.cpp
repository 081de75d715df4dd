#include "core/workspace.h"

#include <algorithm>
#include <new>

namespace fastretina {
namespace {
constexpr std::size_t kAlign = 64;
constexpr std::size_t kFirstBlock = std::size_t{1} << 20;
}  // namespace

MemorySource host_memory() {
  return {[](std::size_t bytes) { return ::operator new(bytes); },
          [](void* memory) noexcept { ::operator delete(memory); }};
}

void* Workspace::take_bytes(std::size_t bytes) {
  bytes = (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const std::size_t size = std::max({bytes, kFirstBlock, blocks_.empty() ? merged_ : 2 * blocks_.back().size});
    // One alignment unit of slack lets the first buffer start on a boundary.
    blocks_.push_back({{source_.allocate(size + kAlign), source_.release}, size});
    used_ = 0;
  }
  auto base = reinterpret_cast<std::uintptr_t>(blocks_[block_].memory.get());
  base = (base + kAlign - 1) / kAlign * kAlign;
  void* memory = reinterpret_cast<void*>(base + used_);
  used_ += bytes;
  return memory;
}

void Workspace::release(std::size_t block, std::size_t used) noexcept {
  block_ = block;
  used_ = used;
  // Nothing is in use and there are several blocks: one shall replace them, so that the next round fits into it. The
  // next take allocates it: this runs in a destructor, where running out of memory would end the process.
  if (block == 0 && used == 0 && blocks_.size() > 1) {
    merged_ = capacity_bytes();
    blocks_.clear();
  }
}

std::size_t Workspace::capacity_bytes() const {
  if (blocks_.empty()) return merged_;
  std::size_t total = 0;
  for (const Block& b : blocks_) total += b.size;
  return total;
}

}  // namespace fastretina
