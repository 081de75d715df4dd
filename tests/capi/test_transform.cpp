// The transform of the C ABI: Python's text to the last byte, every kind's inverse, nothing but transforms read.
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "capi/json.h"
#include "capi/transform_json.h"
#include "core/error.h"
#include "filter_engine.h"

using namespace fastretina;
using namespace fastretina::capi;

namespace {

std::string number(double value) {
  std::string out;
  append_number(out, value);
  return out;
}

// repr() of Python, written out.
void numbers_are_written_as_python_writes_them() {
  struct Row {
    double value;
    const char* text;
  };
  const Row rows[] = {{0, "0.0"},
                      {1, "1.0"},
                      {-2.5, "-2.5"},
                      {0.1, "0.1"},
                      {100, "100.0"},
                      {123456.789, "123456.789"},
                      {1e15, "1000000000000000.0"},
                      {1e16, "1e+16"},
                      {-1.5e300, "-1.5e+300"},
                      {0.0001, "0.0001"},
                      {0.00001, "1e-05"},
                      {0.00123, "0.00123"},
                      {1.0 / 3.0, "0.3333333333333333"},
                      {5e-324, "5e-324"},
                      {9007199254740993.0, "9007199254740992.0"},
                      {1e22, "1e+22"}};
  for (const Row& row : rows) CHECK(number(row.value) == row.text);
}

const char* const kAffine =
    R"({"direction": "moving_to_fixed", "kind": "affine", "parameters": [[1.25, 0.0, 3.0], [0.0, 0.5, -4.0], [0.0, 0.0, 1.0]]})";
const char* const kQuadratic =
    R"({"direction": "moving_to_fixed", "kind": "quadratic", "parameters": [[5.0, 1.01, 0.02, 1e-05, -2e-05, 0.0], [-3.0, -0.02, 0.99, 0.0, 1e-05, 3e-05]]})";
const char* const kInverse =
    R"({"direction": "moving_to_fixed", "kind": "composite", "parts": [{"direction": "moving_to_fixed", "inverted": true, "kind": "quadratic", "parameters": [[5.0, 1.01, 0.02, 1e-05, -2e-05, 0.0], [-3.0, -0.02, 0.99, 0.0, 1e-05, 3e-05]]}]})";

const char* const kDense =
    R"({"direction": "moving_to_fixed", "kind": "composite", "parts": [{"direction": "moving_to_fixed", "kind": "dense", "parameters": [[[1.0, 2.0], [0.0, -0.5], [3.0, 0.25]], [[0.0, 0.0], [4.0, -3.0], [0.0, 1e-05]]], "rectangle": [-20.0, 0.0, 180.0, 120.0]}, {"direction": "moving_to_fixed", "kind": "affine", "parameters": [[1.25, 0.0, 3.0], [0.0, 0.5, -4.0], [0.0, 0.0, 1.0]]}]})";

void text_survives_reading_and_writing() {
  for (const char* text : {kAffine, kQuadratic, kInverse, kDense}) CHECK(write_json(read_json(text)) == text);
  CHECK(write_json(read_json(R"({"status": "ok", "transform": )" + std::string(kAffine) + "}")) == kAffine);
  CHECK(write_json(read_json(" { \"kind\" : \"\\u0061ffine\",\n\"parameters\":[1.25,0,3,0,0.5,-4,0,0,1]}\t")) ==
        kAffine);
  CHECK(write_json(inverse(read_json(kQuadratic))) == kInverse &&
        write_json(inverse(read_json(kInverse))) == kQuadratic);

  std::mt19937_64 random(1);  // every finite double
  for (int i = 0; i < 20000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (std::isfinite(value)) CHECK(*parse_json(number(value)).as<double>() == value);
  }
}

void kinds_invert() {
  const char* const homography =
      R"({"kind": "homography", "parameters": [[2, 0.1, 5], [-0.2, 1.8, 7], [2e-4, -1e-4, 2]]})";
  for (const std::string text : {kAffine, kQuadratic, kInverse, kDense, homography}) {
    const TransformSteps forward = read_json(text), back = inverse(forward);
    for (const Point p : {Point{0, 0}, Point{100, 50}, Point{-30, 200}}) {
      const Point there = apply(forward, p), again = apply(back, there);
      // Newton's method stops below 1e-9 px, relative to the coordinate.
      CHECK(std::hypot(again.x - p.x, again.y - p.y) < 1e-6);
    }
  }
  CHECK(read_json(homography).list()[0].map.p[8] == 1 && read_json(homography).list()[0].map.p[0] == 1);
  const Point nowhere = apply(read_json(R"({"kind": "composite", "parts": [{"kind": "quadratic", "inverted": true,
      "parameters": [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]}]})"),
                              {-1, 0});  // x^2 = -1
  CHECK(std::isnan(nowhere.x));
}

void what_is_no_transform_is_told() {
  const char* const texts[] = {
      "",
      "{",
      "[]",
      "1",
      "null",
      "{}",
      "{\"kind\": \"affine\"}",
      "{\"kind\": 3, \"parameters\": []}",
      R"({"kind": "dents", "parameters": [1,0,0,0,1,0,0,0,1]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0]})",
      R"({"kind": "affine", "parameters": [[1,0],[0,1],[0,0]]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0,"1"]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0,NaN]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0,1e999]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,1,1]})",      // a homography
      R"({"kind": "similarity", "parameters": [1,0,0,0,2,0,0,0,1]})",  // an affine map
      R"({"kind": "identity", "parameters": [1,0,0,0,1,1,0,0,1]})",
      R"({"kind": "affine", "direction": "fixed_to_moving", "parameters": [1,0,0,0,1,0,0,0,1]})",
      R"({"status": "low_agreement", "transform": null})",
      R"({"kind": "composite"})",
      R"({"kind": "composite", "parts": []})",
      R"({"kind": "composite", "parts": [{"kind": "affine", "inverted": true, "parameters": [1,0,0,1,0,0,0,0,1]}]})",  // singular
      R"({"kind": "dense", "parameters": [[[0,0],[0,0]],[[0,0],[0,0]]]})",                          // no rectangle
      R"({"kind": "dense", "parameters": [[[0,0],[0,0]],[[0,0],[0,0]]], "rectangle": [0,0,0,1]})",  // an empty one
      R"({"kind": "dense", "parameters": [[[0,0],[0,0]]], "rectangle": [0,0,1,1]})",                // one row
      R"({"kind": "dense", "parameters": [[[0,0],[0]],[[0,0],[0,0]]], "rectangle": [0,0,1,1]})",
      R"({"kind": "dense", "parameters": [[[0,0],[0,0]],[[0,0]]], "rectangle": [0,0,1,1]})",
      R"({"kind": "dense", "parameters": [[[9,0],[-9,0]],[[9,0],[-9,0]]], "rectangle": [0,0,1,1]})",  // folds
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0,01]})",
      R"({"kind": "affine", "parameters": [1,0,0,0,1,0,0,0,1]} x)",
      R"({"kind": "a\q"})",
      R"({"kind": "a\u12g4"})",
      R"({"kind": "affine)",
      R"({"a": .5})",
      R"({"a": 1.})",
      R"({"a": 1e})"};
  for (const char* text : texts) {
    bool told = false;
    try {
      read_json(text);
    } catch (const InvalidArgument&) {
      told = true;
    }
    CHECK(told);
  }
  const std::string deep = std::string(100000, '[');
  fastretina_transform* t = nullptr;
  CHECK(fastretina_transform_create(&t) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_from_json(kAffine, std::string(kAffine).size(), t) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_from_json(deep.data(), deep.size(), t) == FASTRETINA_INVALID_ARGUMENT &&
        last_error_says("deep"));
  CHECK(fastretina_transform_kind(t) == FASTRETINA_EMPTY);
  fastretina_transform_destroy(t);
}

void the_c_functions_check_what_they_are_given() {
  fastretina_transform* t = nullptr;
  CHECK(fastretina_transform_create(&t) == FASTRETINA_SUCCESS);
  std::size_t size = 0;
  char text[256];
  CHECK(fastretina_transform_to_json(t, text, sizeof text, &size) == FASTRETINA_INVALID_ARGUMENT &&
        last_error_says("empty"));
  const std::string affine = kAffine;
  CHECK(fastretina_transform_from_json(affine.data(), affine.size(), t) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_to_json(t, nullptr, 0, &size) == FASTRETINA_SUCCESS && size == affine.size());
  CHECK(fastretina_transform_to_json(t, text, size, &size) == FASTRETINA_INVALID_ARGUMENT &&
        last_error_says("capacity"));
  CHECK(fastretina_transform_to_json(t, text, size + 1, &size) == FASTRETINA_SUCCESS && affine == text);
  double p[9] = {};
  CHECK(fastretina_transform_parameters(t, p, 2, &size) == FASTRETINA_SUCCESS && size == 9 && p[0] == 1.25 &&
        p[2] == 0);
  CHECK(fastretina_transform_points(t, nullptr, 0, nullptr) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_points(t, nullptr, 1, p) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_transform_inverse(t, t) == FASTRETINA_SUCCESS);
  CHECK(fastretina_transform_inverse(t, nullptr) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(fastretina_transform_create(nullptr) == FASTRETINA_INVALID_ARGUMENT);
  fastretina_transform_destroy(t);
}

}  // namespace

int main() {
  numbers_are_written_as_python_writes_them();
  text_survives_reading_and_writing();
  kinds_invert();
  what_is_no_transform_is_told();
  the_c_functions_check_what_they_are_given();
  return 0;
}
