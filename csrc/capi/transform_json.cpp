#include "capi/transform_json.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "capi/json.h"
#include "core/error.h"

namespace fastretina::capi {
namespace {

constexpr std::string_view kDirection = "moving_to_fixed";
constexpr std::size_t kMostControls = std::size_t{1} << 20;  // of a dense map's grid
constexpr int kDeepest = 8;                                  // composites in composites

void append_numbers(std::string& out, const double* numbers, int count) {
  for (int i = 0; i < count; ++i) {
    out += i == 0 ? "[" : ", ";
    append_number(out, numbers[i]);
  }
  out += ']';
}

void append_rows(std::string& out, const double* numbers, int rows, int columns) {
  for (int r = 0; r < rows; ++r) {
    out += r == 0 ? "[" : ", ";
    append_numbers(out, numbers + r * columns, columns);
  }
  out += ']';
}

// Members in alphabetical order, as Python sorts them.
void append_step(std::string& out, const Step& step, bool is_part) {
  out += "{\"direction\": \"" + std::string(kDirection) + '"';
  if (is_part && step.inverted) out += ", \"inverted\": true";
  out += ", \"kind\": \"" + std::string(kind_name(kind_of(step))) + "\", \"parameters\": ";
  if (step.dense()) {
    for (int r = 0; r < step.rows; ++r) {
      out += r == 0 ? "[" : ", ";
      append_rows(out, step.control.data() + std::ptrdiff_t{2} * r * step.columns, step.columns, 2);
    }
    out += "], \"rectangle\": ";
    append_numbers(out, step.rectangle.data(), 4);
  } else if (step.map.kind == TransformKind::quadratic) {
    append_rows(out, step.map.p, 2, 6);
  } else {
    append_rows(out, step.map.p, 3, 3);
  }
  out += '}';
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

const Json& member(const Json& json, const char* name) {
  const Json* found = json.member(name);
  require(found != nullptr, name, "none", "kind and parameters, for dense a rectangle, too");
  return *found;
}

Transform map_of(const Json& json, fastretina_kind kind) {
  Transform map;
  map.kind = static_cast<TransformKind>(kind);
  const bool quadratic = map.kind == TransformKind::quadratic;
  const std::vector<double> p = numbers(member(json, "parameters"), quadratic ? 2 : 3, quadratic ? 6 : 3);
  std::copy(p.begin(), p.end(), map.p);
  return map;
}

// (rows, columns, 2) displacements.
Step dense_of(const Json& json) {
  constexpr const char* kExpected = "rows of columns of two numbers";
  Step step;
  const JsonArray* rows = member(json, "parameters").as<JsonArray>();
  require(rows != nullptr && rows->size() >= 2 && rows->size() <= kMostControls, "parameters", "another shape",
          kExpected);
  const auto size_of = [](const Json& row) { return row.as<JsonArray>() == nullptr ? 0 : row.as<JsonArray>()->size(); };
  const std::size_t columns = size_of(rows->front());
  require(columns >= 2 && columns * rows->size() <= kMostControls, "parameters", "another shape", kExpected);
  step.rows = static_cast<int>(rows->size());
  step.columns = static_cast<int>(columns);
  for (const Json& row : *rows) {
    require(size_of(row) == columns, "parameters", "another shape", kExpected);
    for (const Json& pair : *row.as<JsonArray>())
      for (std::size_t i = 0; i < 2; ++i) {
        require(size_of(pair) == 2 && (*pair.as<JsonArray>())[i].as<double>() != nullptr, "parameters", "another shape",
                kExpected);
        step.control.push_back(*(*pair.as<JsonArray>())[i].as<double>());
      }
  }
  const JsonArray* edges = member(json, "rectangle").as<JsonArray>();
  require(edges != nullptr && edges->size() == 4, "rectangle", "another shape", "x0, y0, x1, y1");
  for (std::size_t i = 0; i < 4; ++i) {
    require((*edges)[i].as<double>() != nullptr, "rectangle", "an entry that is no number", "x0, y0, x1, y1");
    step.rectangle[i] = *(*edges)[i].as<double>();
  }
  check_dense(step);
  return step;
}

fastretina_kind kind_named(const std::string& name) {
  for (fastretina_kind kind = FASTRETINA_IDENTITY; kind < FASTRETINA_COMPOSITE; ++kind)
    if (name == kind_name(kind)) return kind;
  throw InvalidArgument("kind", '"' + name.substr(0, 40) + '"',
                        "identity, similarity, affine, homography, quadratic, dense or composite");
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
  const fastretina_kind named = kind_named(*kind->as<std::string>());
  if (named == FASTRETINA_DENSE)
    out.append(dense_of(json));
  else
    out.append(map_of(json, named));
  return out;
}

}  // namespace

std::string write_json(const TransformSteps& steps) {
  std::string out;
  const auto list = steps.list();
  if (list.size() == 1 && !list[0].inverted) {
    append_step(out, list[0], false);
    return out;
  }
  out = "{\"direction\": \"" + std::string(kDirection) + "\", \"kind\": \"composite\", \"parts\": [";
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out += ", ";
    append_step(out, list[i], true);
  }
  out += "]}";
  return out;
}

TransformSteps read_json(std::string_view text) { return steps_in(parse_json(text), 0); }

}  // namespace fastretina::capi
