// SHA-256 (FIPS 180-4): whether a file is the one that its manifest names.
#pragma once

#include <cstddef>
#include <string>

namespace fastretina {

// 64 lower-case hexadecimal digits.
std::string sha256(const void* data, std::size_t size);

}  // namespace fastretina
