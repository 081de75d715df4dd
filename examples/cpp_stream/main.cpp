// A live stream: the first frame of a folder is the reference, the others are registered to it one after the other.
//
//   cpp_stream MANIFEST FOLDER [PRECISION [THREADS]]
//
// FOLDER holds binary PGM files (P5, 8 bit), taken in the order of their names. One line of JSON a frame goes to
// standard output: its name, status, confidence, transform (null when refused) and milliseconds. Exit status: 0 done, 2
// misuse, 1 another error.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastretina.hpp"
#include "fastretina_openvino.h"

namespace fr = fastretina::v1;

namespace {

struct Frame {
  std::string name;
  std::vector<std::uint8_t> pixels;
  std::int32_t width = 0, height = 0;

  fastretina_image image() const { return {pixels.data(), width, width, height, FASTRETINA_GRAY_U8}; }
};

Frame read_pgm(const std::filesystem::path& path) {
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

std::vector<std::filesystem::path> frames_in(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".pgm") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  if (paths.size() < 2) throw std::invalid_argument(folder + ": expected two .pgm files or more");
  return paths;
}

fastretina_precision precision_of(const std::string& name) {
  if (name == "auto") return FASTRETINA_PRECISION_AUTO;
  if (name == "f32") return FASTRETINA_PRECISION_F32;
  if (name == "bf16") return FASTRETINA_PRECISION_BF16;
  if (name == "int8") return FASTRETINA_PRECISION_INT8;
  throw std::invalid_argument("PRECISION: got " + name + ", expected auto, f32, bf16 or int8");
}

void stream(const std::string& manifest, const std::string& folder, const std::string& precision, int threads) {
  fastretina_engine engine;
  fr::check(fastretina_openvino_engine(&engine));
  const fr::Model model(manifest, engine, precision_of(precision));
  fastretina_options options = fr::default_options();
  options.threads = threads;
  options.max_attempts = 1;  // frames of one device: no other scale, no turn. Bounds the time of a frame
  fr::Session session(model, options);

  const auto paths = frames_in(folder);
  fr::Prepared reference;
  session.prepare(read_pgm(paths[0]).image(), reference);
  fr::Transform transform;
  for (std::size_t i = 1; i < paths.size(); ++i) {
    const Frame frame = read_pgm(paths[i]);
    const auto start = std::chrono::steady_clock::now();
    const fastretina_result result = session.register_frame(reference, frame.image(), transform);
    const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
    const bool ok = result.status == FASTRETINA_STATUS_OK;
    std::printf(
        "{\"frame\": \"%s\", \"status\": \"%s\", \"confidence\": %.17g, \"transform\": %s, \"milliseconds\": %.3f}\n",
        frame.name.c_str(), fastretina_status_name(result.status), result.confidence,
        ok ? transform.to_json().c_str() : "null", spent.count());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    std::cerr << "usage: cpp_stream MANIFEST FOLDER [PRECISION [THREADS]]\n";
    return 2;
  }
  try {
    stream(argv[1], argv[2], argc > 3 ? argv[3] : "auto", argc > 4 ? std::atoi(argv[4]) : 1);
    return 0;
  } catch (const std::invalid_argument& error) {
    std::cerr << "cpp_stream: " << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "cpp_stream: " << error.what() << '\n';
    return 1;
  }
}
