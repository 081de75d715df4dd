#include "capi/transform_json.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "capi/json.h"
#include "core/error.h"

namespace fastretina::capi {
namespace {

constexpr std::string_view kDirection = "moving_to_fixed";
constexpr TransformKind kKinds[] = {TransformKind::identity, TransformKind::similarity, TransformKind::affine,
                                    TransformKind::homography, TransformKind::quadratic};
constexpr int kDeepest = 8;  // composites in composites

// Members in alphabetical order, as Python sorts them.
void append_map(std::string& out, const Step& step, bool is_part) {
  const bool quadratic = step.map.kind == TransformKind::quadratic;
  const int rows = quadratic ? 2 : 3, columns = quadratic ? 6 : 3;
  out += "{\"direction\": \"" + std::string(kDirection) + '"';
  if (is_part && step.inverted) out += ", \"inverted\": true";
  out += ", \"kind\": \"" + std::string(kind_name(step.map.kind)) + "\", \"parameters\": [";
  for (int r = 0; r < rows; ++r) {
    out += r == 0 ? "[" : ", [";
    for (int c = 0; c < columns; ++c) {
      if (c > 0) out += ", ";
      append_number(out, step.map.p[columns * r + c]);
    }
    out += ']';
  }
  out += "]}";
}

// Rows of columns, or all in one array.
std::vector<double> numbers(const Json& json, std::size_t rows, std::size_t columns) {
  std::vector<double> out;
  const char* const expected = rows == 2 ? "2 rows of 6 numbers" : "3 rows of 3 numbers";
  const auto take = [&](const JsonArray& array, std::size_t count) {
    require(array.size() == count, "parameters", "another number of entries", expected);
    for (const Json& entry : array) {
      const double* number = entry.as<double>();
      require(number != nullptr, "parameters", "an entry that is no number", expected);
      out.push_back(*number);
    }
  };
  const JsonArray* array = json.as<JsonArray>();
  require(array != nullptr && !array->empty(), "parameters", "no array", expected);
  if (array->front().as<JsonArray>() == nullptr) {
    take(*array, rows * columns);
    return out;
  }
  require(array->size() == rows, "parameters", "another number of rows", expected);
  for (const Json& row : *array) {
    require(row.as<JsonArray>() != nullptr, "parameters", "a row that is no array", expected);
    take(*row.as<JsonArray>(), columns);
  }
  return out;
}

Transform map_of(const Json& json, const std::string& kind) {
  Transform map;
  bool known = false;
  for (const TransformKind candidate : kKinds)
    if (kind == kind_name(candidate)) map.kind = candidate, known = true;
  require(known, "kind", '"' + kind.substr(0, 40) + '"',
          "identity, similarity, affine, homography, quadratic or composite");
  const Json* parameters = json.member("parameters");
  require(parameters != nullptr, "transform", "no parameters", "kind and parameters");
  const bool quadratic = map.kind == TransformKind::quadratic;
  const std::vector<double> p = numbers(*parameters, quadratic ? 2 : 3, quadratic ? 6 : 3);
  for (std::size_t i = 0; i < p.size(); ++i) map.p[i] = p[i];
  return checked(map);
}

TransformSteps steps_in(const Json& json, int depth);

TransformSteps composite(const Json& json, int depth) {
  const Json* parts = json.member("parts");
  const JsonArray* list = parts == nullptr ? nullptr : parts->as<JsonArray>();
  require(list != nullptr && !list->empty(), "parts", "none", "a list of transforms");
  TransformSteps out;
  for (const Json& part : *list) {
    TransformSteps steps = steps_in(part, depth + 1);
    const Json* inverted = part.member("inverted");
    if (inverted != nullptr) {
      require(inverted->as<bool>() != nullptr, "inverted", "another type", "true or false");
      if (*inverted->as<bool>()) steps = inverse(steps);
    }
    for (const Step& step : steps.list()) out.append(step);
  }
  return out;
}

TransformSteps steps_in(const Json& json, int depth) {
  require(depth <= kDeepest, "transform", "composites nested too deeply", "8 levels or fewer");
  require(json.as<JsonObject>() != nullptr, "transform", "no object", "an object with kind and parameters");
  if (const Json* inner = json.member("transform")) {
    require(inner->as<std::nullptr_t>() == nullptr, "transform", "null: the registration was refused", "a transform");
    return steps_in(*inner, depth + 1);
  }
  if (const Json* direction = json.member("direction")) {
    const std::string* text = direction->as<std::string>();
    require(text != nullptr && *text == kDirection, "direction", "another one", "\"moving_to_fixed\"");
  }
  const Json* kind = json.member("kind");
  require(kind != nullptr && kind->as<std::string>() != nullptr, "transform", "no kind", "kind and parameters");
  if (*kind->as<std::string>() == "composite") return composite(json, depth);
  TransformSteps out;
  out.append({map_of(json, *kind->as<std::string>())});
  return out;
}

}  // namespace

std::string write_json(const TransformSteps& steps) {
  std::string out;
  const auto list = steps.list();
  if (list.size() == 1 && !list[0].inverted) {
    append_map(out, list[0], false);
    return out;
  }
  out = "{\"direction\": \"" + std::string(kDirection) + "\", \"kind\": \"composite\", \"parts\": [";
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += ", ";
    append_map(out, list[i], true);
  }
  out += "]}";
  return out;
}

TransformSteps read_json(std::string_view text) { return steps_in(parse_json(text), 0); }

}  // namespace fastretina::capi
