// The escapes \u and four hexadecimal digits, which JSON and TOML share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fastretina {

// The value of four hexadecimal digits; -1: they are none.
inline std::int32_t hex4(std::string_view digits) {
  if (digits.size() < 4) return -1;
  std::int32_t value = 0;
  for (const char c : digits.substr(0, 4)) {
    const std::size_t digit =
        std::string_view("0123456789abcdef").find(static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c));
    if (digit == std::string_view::npos) return -1;
    value = value * 16 + static_cast<std::int32_t>(digit);
  }
  return value;
}

// Surrogates are written as they are: what is read here is compared, never shown.
inline void append_utf8(std::string& out, std::int32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace fastretina
