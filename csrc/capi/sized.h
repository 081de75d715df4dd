// Structs that may grow at their end: read and written by the size that the program was compiled with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/error.h"

namespace fastretina::capi {

// How many bytes of its struct the caller knows.
inline std::size_t sized(std::uint32_t struct_size, std::size_t smallest, const char* argument) {
  constexpr std::size_t kLargest = 4096;  // beyond that it is no size but garbage
  require(struct_size >= smallest && struct_size <= kLargest, argument, "struct_size " + std::to_string(struct_size),
          "a struct that its _init or _default function has filled");
  return struct_size;
}

// From an older program: what it does not know stays as it is in `to`. From a newer one: what we do not know must be 0.
template <class T>
void read_sized(const T& from, T& to, const char* argument) {
  constexpr std::size_t kFirstVersion = sizeof(T);  // frozen when a member is added
  const std::size_t theirs = sized(from.struct_size, kFirstVersion, argument);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&from);
  const bool known =
      std::all_of(bytes + std::min(theirs, sizeof(T)), bytes + theirs, [](unsigned char b) { return b == 0; });
  require(known, argument, "a newer struct with members set that this library does not know", "a newer library");
  std::memcpy(&to, bytes, std::min(theirs, sizeof(T)));
}

template <class T>
void write_sized(T from, T& to) {
  constexpr std::size_t kFirstVersion = sizeof(T);
  const std::size_t theirs = sized(to.struct_size, kFirstVersion, "result");
  from.struct_size = to.struct_size;
  std::memcpy(&to, &from, std::min(theirs, sizeof(T)));
}

}  // namespace fastretina::capi
