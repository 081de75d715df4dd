// The memory layout that DLPack prescribes for an array handed from one library to another (dmlc.github.io/dlpack).
#pragma once

#include <cstdint>

namespace fastretina::bindings::dlpack {

constexpr std::int32_t kCuda = 2, kCudaManaged = 13;               // types of device
constexpr std::uint8_t kInt = 0, kUint = 1, kFloat = 2, kBool = 6; // codes of elements

struct Device {
  std::int32_t type, id;
};
struct Element {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  Element element;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; NULL: C order
  std::uint64_t byte_offset;
};
struct Managed {
  Tensor tensor;
  void* context;
  void (*release)(Managed* self);
};

// Names of the capsule: before and after its memory was taken over.
constexpr const char *kOffered = "dltensor", *kTaken = "used_dltensor";

}  // namespace fastretina::bindings::dlpack
