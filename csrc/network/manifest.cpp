#include "network/manifest.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <utility>

#include "core/error.h"
#include "image/image.h"
#include "network/sha256.h"
#include "network/toml.h"
#include "upsample/upsample.h"

namespace fastretina {
namespace {

constexpr int kLongestDescriptor = 4096, kLargestMultiple = 1024, kLargestWorkingSize = 8192;
constexpr std::uintmax_t kLargestFile = std::uintmax_t{1} << 31;

template <class T>
const T& fact(const TomlValues& values, const std::string& name, const char* kind) {
  const auto found = values.find(name);
  if (found == values.end()) throw EngineError(name + " is missing");
  if (const T* value = std::get_if<T>(&found->second)) return *value;
  throw EngineError(name + " is no " + kind);
}

int integer(const TomlValues& values, const std::string& name, int low, int high) {
  const std::int64_t value = fact<std::int64_t>(values, name, "integer");
  if (value < low || value > high)
    throw EngineError(name + ": got " + std::to_string(value) + ", expected " + std::to_string(low) + " ... " +
                      std::to_string(high));
  return static_cast<int>(value);
}

// A name in the manifest's own folder: nothing that a manifest says makes us read elsewhere.
Manifest::File file(const TomlValues& values, const std::string& table) {
  Manifest::File out{fact<std::string>(values, table + ".file", "string"),
                     fact<std::string>(values, table + ".sha256", "string")};
  if (out.name.empty() || out.name.find_first_of("/\\:") != std::string::npos || out.name == "." || out.name == "..")
    throw EngineError(table + ".file: got \"" + out.name + "\", expected the name of a file in the manifest's folder");
  if (out.sha256.size() != 64 || out.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw EngineError(table + ".sha256: got \"" + out.sha256 + "\", expected 64 lower-case hexadecimal digits");
  return out;
}

constexpr std::string_view kConfidence = "confidence.";
constexpr std::pair<std::string_view, double ConfidenceModel::*> kWeights[] = {
    {"bias", &ConfidenceModel::bias},
    {"ridge_correlation", &ConfidenceModel::ridge_correlation},
    {"log_inliers", &ConfidenceModel::log_inliers},
    {"inlier_ratio", &ConfidenceModel::inlier_ratio},
    {"overlap", &ConfidenceModel::overlap},
    {"inlier_rms_px", &ConfidenceModel::inlier_rms_px},
    {"coverage", &ConfidenceModel::coverage},
    {"log_peak_to_sidelobe", &ConfidenceModel::log_peak_to_sidelobe},
    {"inlier_similarity", &ConfidenceModel::inlier_similarity},
    {"log_attempts", &ConfidenceModel::log_attempts},
    {"log_anisotropy", &ConfidenceModel::log_anisotropy},
};

void set_weight(ConfidenceModel& model, std::string_view name, const TomlValue& value) {
  for (const auto& [known, member] : kWeights) {
    if (name != known) continue;
    if (const auto* integer = std::get_if<std::int64_t>(&value))
      model.*member = static_cast<double>(*integer);
    else if (const auto* real = std::get_if<double>(&value))
      model.*member = *real;
    else
      throw EngineError("confidence." + std::string(name) + " is no number");
    return;
  }
  throw EngineError("confidence." + std::string(name) + " is no weight of the confidence");
}

Manifest facts(std::string_view text) {
  const TomlValues values = read_toml(text);
  Manifest out;
  out.name = fact<std::string>(values, "name", "string");
  out.multiple = integer(values, "pad_multiple", kStride, kLargestMultiple);
  if (out.multiple % kStride != 0)
    throw EngineError("pad_multiple: got " + std::to_string(out.multiple) + ", expected a multiple of 4");
  out.dims = integer(values, "descriptor_dims", 1, kLongestDescriptor);
  if (values.contains("stride")) integer(values, "stride", kStride, kStride);
  if (values.contains("working_size"))
    out.working_size = integer(values, "working_size", kSmallestSidePx, kLargestWorkingSize);
  for (auto it = values.lower_bound(kConfidence); it != values.end() && it->first.starts_with(kConfidence); ++it)
    set_weight(out.confidence, std::string_view(it->first).substr(kConfidence.size()), it->second);
  out.f32 = file(values, "weights.onnx");
  if (values.contains("weights.onnx_int8.file")) out.int8 = file(values, "weights.onnx_int8");
  return out;
}

}  // namespace

const char* precision_name(Precision precision) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "int8"};
  return kNames[static_cast<int>(precision)];
}

Manifest read_manifest(std::string_view text) {
  try {
    return facts(text);
  } catch (const EngineError& error) {
    throw EngineError(std::string("manifest: ") + error.what());
  }
}

void check_weights(const Manifest& manifest, Precision precision, const void* weights, std::size_t size) {
  const Manifest::File& file = manifest.weights(precision);
  if (file.name.empty())
    throw EngineError("weights: network " + manifest.name + " has no " + precision_name(precision) + " file");
  const std::string got = sha256(weights, size);
  if (got != file.sha256)
    throw EngineError("weights: truncated or altered: got " + std::to_string(size) + " bytes of SHA-256 " + got +
                      ", expected " + file.name + " of SHA-256 " + file.sha256);
}

std::vector<std::byte> read_file(const std::string& path, const char* what) {
  std::error_code error;
  const std::filesystem::path place(std::u8string(path.begin(), path.end()));
  if (!std::filesystem::is_regular_file(place, error))
    throw EngineError(std::string(what) + ": " + path + " is no file");
  const std::uintmax_t size = std::filesystem::file_size(place, error);
  if (error || size > kLargestFile)
    throw EngineError(std::string(what) + ": " + path + " cannot be read, or exceeds 2 GiB");
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::ifstream stream(place, std::ios::binary);
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!stream) throw EngineError(std::string(what) + ": " + path + " cannot be read");
  return bytes;
}

}  // namespace fastretina
