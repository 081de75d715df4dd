// A program of calls with any arguments a caller can get wrong without lying about memory: sizes, formats, strides,
// options, handles of another session, handles that are NULL, engines that fail in the middle. Every call returns
// success or an error with a text; every handle ends.
#include <array>
#include <cstring>
#include <vector>

#include "filter_engine.h"

using namespace fastretina;

namespace {

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool more() const { return at_ < size_; }
  int next() { return at_ < size_ ? data_[at_++] : 0; }
  int below(int n) { return next() % n; }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

// Memory behind every row that the struct speaks of.
struct AnyImage {
  std::vector<std::uint64_t> memory;  // aligned for every element
  fastretina_mutable_image image{};

  explicit AnyImage(Bytes& bytes) {
    image.format = bytes.below(8) - 1;
    image.width = bytes.next() - 3;
    image.height = bytes.next() - 3;
    image.row_bytes = 12 * std::int64_t{image.width} + bytes.below(16) - 4;
    const std::int64_t size = std::max<std::int64_t>(0, image.row_bytes) * std::max(0, image.height);
    memory.resize(static_cast<std::size_t>(size / 8 + 1));
    const int pattern = bytes.next(), seed = bytes.next();
    auto* pixels = reinterpret_cast<std::uint8_t*>(memory.data());
    for (std::int64_t i = 0; i < size; ++i) pixels[i] = static_cast<std::uint8_t>((i * seed) ^ (i / (pattern + 1)));
    if (image.format == FASTRETINA_GRAY_F32 || image.format == FASTRETINA_RGB_F32) {
      auto* floats = reinterpret_cast<float*>(memory.data());
      if (pattern & 1)
        for (std::int64_t i = 0; i < size / 4; ++i) floats[i] = static_cast<float>((i * seed) & 255) / 255.0F;
    }
    image.data = bytes.below(16) == 0 ? nullptr : pixels + (bytes.below(16) == 0);  // unaligned now and then
    if (image.data != nullptr && image.data != pixels && image.height > 0) --image.height;
  }
  fastretina_image read_only() const { return {image.data, image.row_bytes, image.width, image.height, image.format}; }
};

struct Handles {
  FilterEngine engine;
  fastretina_model* model = load(engine);
  std::array<fastretina_session*, 2> sessions{};
  std::array<fastretina_prepared*, 2> prepared{};
  std::array<fastretina_transform*, 2> transforms{};
  fastretina_result result;

  Handles() {
    fastretina_result_init(&result);
    for (auto& p : prepared) CHECK(fastretina_prepared_create(&p) == FASTRETINA_SUCCESS);
    for (auto& t : transforms) CHECK(fastretina_transform_create(&t) == FASTRETINA_SUCCESS);
  }
  ~Handles() {
    for (auto* t : transforms) fastretina_transform_destroy(t);
    fastretina_model_destroy(model);
    for (auto* s : sessions) fastretina_session_destroy(s);
    for (auto* p : prepared) fastretina_prepared_destroy(p);
  }
};

void check(fastretina_error error) {
  CHECK(error >= FASTRETINA_SUCCESS && error <= FASTRETINA_OUT_OF_MEMORY);  // an internal error is a finding
  if (error != FASTRETINA_SUCCESS) CHECK(std::strlen(fastretina_last_error()) > 0);
}

template <class T>
T* any(std::array<T*, 2>& handles, Bytes& bytes) {
  const int i = bytes.below(8);
  return i == 7 ? nullptr : handles[static_cast<std::size_t>(i & 1)];
}

void create_session(Handles& h, Bytes& bytes) {
  fastretina_options options = filter_options();
  options.threads = bytes.below(4);
  options.working_size = 60 + bytes.below(40);
  options.max_keypoints = 12 + bytes.next();
  options.transform = bytes.below(7) - 1;
  options.max_attempts = bytes.below(4);
  options.min_confidence = bytes.next() / 250.0;
  options.struct_size += static_cast<std::uint32_t>(bytes.below(16) == 0);
  auto& place = h.sessions[static_cast<std::size_t>(bytes.below(2))];
  fastretina_session_destroy(place);
  place = nullptr;
  // One byte more would read behind a struct that says it is longer: give it that byte.
  std::array<unsigned char, sizeof options + 8> longer{};
  std::memcpy(longer.data(), &options, sizeof options);
  alignas(8) unsigned char copy[sizeof longer];
  std::memcpy(copy, longer.data(), sizeof longer);
  check(fastretina_session_create(h.model, reinterpret_cast<const fastretina_options*>(copy), &place));
}

void step(Handles& h, Bytes& bytes) {
  switch (bytes.below(7)) {
    case 0:
      create_session(h, bytes);
      break;
    case 1: {
      const AnyImage image(bytes);
      const fastretina_image in = image.read_only();
      check(fastretina_prepare(any(h.sessions, bytes), &in, any(h.prepared, bytes)));
      break;
    }
    case 2: {
      const AnyImage image(bytes);
      const fastretina_image in = image.read_only();
      check(fastretina_register(any(h.sessions, bytes), any(h.prepared, bytes), &in, any(h.transforms, bytes),
                                &h.result));
      break;
    }
    case 3:
      check(fastretina_register_prepared(any(h.sessions, bytes), any(h.prepared, bytes), any(h.prepared, bytes),
                                         any(h.transforms, bytes), &h.result));
      break;
    case 4: {
      const AnyImage moving(bytes), out(bytes);
      const fastretina_image in = moving.read_only();
      std::vector<std::uint8_t> valid(static_cast<std::size_t>(std::max(1, out.image.width)) *
                                      static_cast<std::size_t>(std::max(1, out.image.height)));
      check(fastretina_warp(any(h.sessions, bytes), &in, any(h.transforms, bytes), bytes.below(5) - 1, &out.image,
                            bytes.below(2) ? valid.data() : nullptr, out.image.width - bytes.below(2)));
      break;
    }
    case 5:
      check(fastretina_transform_inverse(any(h.transforms, bytes), any(h.transforms, bytes)));
      break;
    default:
      h.engine.broken = bytes.below(8) == 0;
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  Handles handles;
  for (int i = 0; i < 24 && bytes.more(); ++i) step(handles, bytes);
  return 0;
}
