// An array that only grows and leaves what it holds unset: nothing is paid for what is never used.
#pragma once

#include <cstddef>
#include <memory>

namespace fastretina {

template <typename T>
class Buffer {
 public:
  // Room for `count` values; what was there is lost if it grows.
  T* resize(std::size_t count) {
    if (count > capacity_) {
      data_.reset(new T[count]);
      capacity_ = count;
    }
    return data_.get();
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
  std::size_t capacity_ = 0;
};

}  // namespace fastretina
