// fastretina.h for C++17: handles that end by themselves, errors that are exceptions. Header-only; the rules of threads
// and memory are those of the C header.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fastretina.h"

// A namespace of its own: the static library's internals are in `fastretina` itself.
namespace fastretina::v1 {

class Error : public std::runtime_error {
 public:
  Error(fastretina_error code, const char* text) : std::runtime_error(text), code_(code) {}
  fastretina_error code() const { return code_; }

 private:
  fastretina_error code_;
};

inline void check(fastretina_error error) {
  if (error != FASTRETINA_SUCCESS) throw Error(error, fastretina_last_error());
}

template <class T, void (*destroy)(T*)>
class Handle {
 public:
  T* get() const { return pointer_.get(); }

 protected:
  struct Destroy {
    void operator()(T* pointer) const { destroy(pointer); }
  };
  template <class Make>
  explicit Handle(Make&& make) {
    T* made = nullptr;
    check(make(&made));
    pointer_.reset(made);
  }

 private:
  std::unique_ptr<T, Destroy> pointer_;
};

class Transform : public Handle<fastretina_transform, fastretina_transform_destroy> {
 public:
  Transform() : Handle(fastretina_transform_create) {}

  static Transform from_json(std::string_view text) {
    Transform t;
    check(fastretina_transform_from_json(text.data(), text.size(), t.get()));
    return t;
  }
  std::string to_json() const {
    std::size_t size = 0;
    check(fastretina_transform_to_json(get(), nullptr, 0, &size));
    std::string text(size + 1, '\0');
    check(fastretina_transform_to_json(get(), text.data(), text.size(), &size));
    text.resize(size);
    return text;
  }
  fastretina_kind kind() const { return fastretina_transform_kind(get()); }
  std::vector<double> parameters() const {
    std::vector<double> numbers(12);
    std::size_t count = 0;
    check(fastretina_transform_parameters(get(), numbers.data(), numbers.size(), &count));
    numbers.resize(count);
    return numbers;
  }
  std::array<double, 2> operator()(double x, double y) const {
    std::array<double, 2> point{x, y};
    check(fastretina_transform_points(get(), point.data(), 1, point.data()));
    return point;
  }
  Transform inverse() const {
    Transform t;
    check(fastretina_transform_inverse(get(), t.get()));
    return t;
  }
};

class Model : public Handle<fastretina_model, fastretina_model_destroy> {
 public:
  // Takes over the engine.
  Model(const std::string& manifest_path, const fastretina_engine& engine,
        fastretina_precision precision = FASTRETINA_PRECISION_AUTO)
      : Handle([&](fastretina_model** out) {
          return fastretina_model_load(manifest_path.c_str(), precision, &engine, out);
        }) {}

  fastretina_model_info describe() const {
    fastretina_model_info info{};
    check(fastretina_model_describe(get(), &info));
    return info;
  }
};

class Prepared : public Handle<fastretina_prepared, fastretina_prepared_destroy> {
 public:
  Prepared() : Handle(fastretina_prepared_create) {}
};

inline fastretina_options default_options() {
  fastretina_options options;
  fastretina_options_default(&options);
  return options;
}

class Session : public Handle<fastretina_session, fastretina_session_destroy> {
 public:
  explicit Session(const Model& model, const fastretina_options& options = default_options())
      : Handle([&](fastretina_session** out) { return fastretina_session_create(model.get(), &options, out); }) {}

  void prepare(const fastretina_image& image, Prepared& out) { check(fastretina_prepare(get(), &image, out.get())); }

  fastretina_result register_frame(Prepared& fixed, const fastretina_image& moving, Transform& transform) {
    fastretina_result result;
    fastretina_result_init(&result);
    check(fastretina_register(get(), fixed.get(), &moving, transform.get(), &result));
    return result;
  }
  fastretina_result register_prepared(Prepared& fixed, Prepared& moving, Transform& transform) {
    fastretina_result result;
    fastretina_result_init(&result);
    check(fastretina_register_prepared(get(), fixed.get(), moving.get(), transform.get(), &result));
    return result;
  }
  void warp(const fastretina_image& moving, const Transform& transform, const fastretina_mutable_image& out,
            std::uint8_t* valid = nullptr, fastretina_interpolation interpolation = FASTRETINA_LINEAR) {
    check(fastretina_warp(get(), &moving, transform.get(), interpolation, &out, valid, out.width));
  }
};

}  // namespace fastretina::v1
