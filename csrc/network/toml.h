// The part of TOML that manifests are written in: tables, strings on one line, integers, floats, booleans, and arrays
// of these. What goes beyond it (dates, inline tables, multi-line strings, arrays of tables) is an error, never
// skipped.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>

namespace fastretina {

// "table.key" -> value. Arrays are checked, but no fact of ours is one: their value is std::monostate.
using TomlValue = std::variant<std::monostate, bool, std::int64_t, double, std::string>;
using TomlValues = std::map<std::string, TomlValue, std::less<>>;

// Throws EngineError("line N: ...").
TomlValues read_toml(std::string_view text);

}  // namespace fastretina
