// csrc/match/tensor_device.h in plain C++. Sums of bf16 products are a chain of fmaf over k here; the hardware adds
// blocks of them with an order and a rounding of its own. Integer sums are exact on both.
#pragma once

#include "cuda_runtime.h"

namespace fastretina::cuda::tensor {

inline void load_matrices(const void* row, std::uint32_t (&out)[4]) {
  const int lane = emulation::lane();
  for (int i = 0; i < 4; ++i) {
    const auto* from = static_cast<const std::byte*>(emulation::exchange(row, 8 * i + lane / 4));
    std::memcpy(&out[i], from + 4 * (lane % 4), 4);
  }
}

struct Fragments {
  std::uint32_t a[4], b[2];
};

inline float step(float sum, std::uint32_t a, std::uint32_t b) {
  for (int half = 0; half < 2; ++half)
    sum = std::fmaf(std::bit_cast<float>(a >> (16 * half) << 16), std::bit_cast<float>(b >> (16 * half) << 16), sum);
  return sum;
}
inline int step(int sum, std::uint32_t a, std::uint32_t b) {
  for (int byte = 0; byte < 4; ++byte)
    sum += static_cast<std::int8_t>(a >> (8 * byte)) * static_cast<std::int8_t>(b >> (8 * byte));
  return sum;
}

template <class Sum>
void multiply_add(Sum (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const Fragments own{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const int lane = emulation::lane();
  std::memcpy(emulation::warp_slot(lane), &own, sizeof(own));
  emulation::warp_barrier();
  const auto of = [](int from) {
    Fragments f;
    std::memcpy(&f, emulation::warp_slot(from), sizeof(f));
    return f;
  };
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
    for (int word = 0; word < 8; ++word)
      sum[i] =
          step(sum[i], of(4 * (row % 8) + word % 4).a[row / 8 + 2 * (word / 4)], of(4 * column + word % 4).b[word / 4]);
  }
  emulation::warp_barrier();
}

inline void copy_async(void* to, const void* from) { std::memcpy(to, from, 16); }
inline void commit_copies() {}
template <int kPending>
void wait_for_copies() {}

}  // namespace fastretina::cuda::tensor
