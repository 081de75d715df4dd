// JSON (RFC 8259) -> a value. Only what reading a transform needs.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fastretina::capi {

struct Json;
using JsonArray = std::vector<Json>;
using JsonObject = std::map<std::string, Json, std::less<>>;  // of a repeated name the last value counts

struct Json {
  std::variant<std::nullptr_t, bool, double, std::string, JsonArray, JsonObject> value;

  // NULL where this is no object, or has no such member.
  const Json* member(std::string_view name) const;
  template <class T>
  const T* as() const {
    return std::get_if<T>(&value);
  }
};

// Throws InvalidArgument("transform: got ..., expected ...").
Json parse_json(std::string_view text);

// The shortest digits that read back as the same double, written as Python writes them. Finite numbers only.
void append_number(std::string& out, double value);

}  // namespace fastretina::capi
