#include "capi/pixels.h"

#include <cstdint>
#include <string>

#include "capi/guard.h"

namespace fastretina::capi {
namespace {

constexpr std::int32_t kLongestSide = 1 << 28;

template <class Out, class In>
Out checked(const In* image, const char* argument) {
  const In& in = given(image, argument);
  require(in.data != nullptr, argument, "NULL data", "pixels");
  require(in.format >= FASTRETINA_GRAY_U8 && in.format <= FASTRETINA_RGB_F32, argument, "an unknown format",
          "FASTRETINA_GRAY_U8 ... FASTRETINA_RGB_F32");
  require(in.width > 0 && in.height > 0 && in.width < kLongestSide && in.height < kLongestSide, argument,
          "a width or height out of range", "sides from 1 to below 2^28 px");
  const int channels = in.format >= FASTRETINA_RGB_U8 ? 3 : 1;
  const auto type = static_cast<PixelType>(in.format % 3);
  const int bytes = type == PixelType::u8 ? 1 : type == PixelType::u16 ? 2 : 4;
  require(in.row_bytes >= std::int64_t{in.width} * channels * bytes && in.row_bytes % bytes == 0 &&
              in.row_bytes <= PTRDIFF_MAX / in.height,
          argument, "wrong row_bytes", "a row's bytes or more, a multiple of the element's size");
  require(reinterpret_cast<std::uintptr_t>(in.data) % static_cast<std::uintptr_t>(bytes) == 0, argument,
          "unaligned data", "data aligned for its element type");
  return {in.data, in.width, in.height, channels, static_cast<std::ptrdiff_t>(in.row_bytes), type};
}

}  // namespace

Image pixels_of(const fastretina_image* image, const char* argument) { return checked<Image>(image, argument); }
MutableImage pixels_of(const fastretina_mutable_image* image, const char* argument) {
  return checked<MutableImage>(image, argument);
}

}  // namespace fastretina::capi
