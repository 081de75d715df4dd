// The frames of a folder of binary PGM files (P5, 8 bit).
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastretina.h"

struct Frame {
  std::string name;
  std::vector<std::uint8_t> pixels;
  std::int32_t width = 0, height = 0;

  fastretina_image image() const { return {pixels.data(), width, width, height, FASTRETINA_GRAY_U8}; }
};

inline Frame read_pgm(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int most = 0;
  Frame frame;
  file >> magic >> frame.width >> frame.height >> most;
  file.get();  // the one space before the pixels
  if (!file || magic != "P5" || most != 255 || frame.width < 1 || frame.height < 1 || frame.width > 32767 ||
      frame.height > 32767)
    throw std::invalid_argument(path.string() + ": expected a binary PGM file of 8 bits");
  frame.name = path.filename().string();
  frame.pixels.resize(static_cast<std::size_t>(frame.width) * static_cast<std::size_t>(frame.height));
  file.read(reinterpret_cast<char*>(frame.pixels.data()), static_cast<std::streamsize>(frame.pixels.size()));
  if (!file) throw std::invalid_argument(path.string() + ": the file is truncated");
  return frame;
}

inline std::vector<std::filesystem::path> frames_in(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".pgm") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  if (paths.size() < 2) throw std::invalid_argument(folder + ": expected two .pgm files or more");
  return paths;
}

inline fastretina_precision precision_of(const std::string& name) {
  if (name == "auto") return FASTRETINA_PRECISION_AUTO;
  if (name == "f32") return FASTRETINA_PRECISION_F32;
  if (name == "bf16") return FASTRETINA_PRECISION_BF16;
  if (name == "int8") return FASTRETINA_PRECISION_INT8;
  throw std::invalid_argument("PRECISION: got " + name + ", expected auto, f32, bf16 or int8");
}
