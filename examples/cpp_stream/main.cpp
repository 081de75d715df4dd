// A live stream: the first frame of a folder is the reference, the others are registered to it one after the other.
//
//   cpp_stream MANIFEST FOLDER [PRECISION [THREADS]]
//
// FOLDER holds binary PGM files (P5, 8 bit), taken in the order of their names. One line of JSON a frame goes to
// standard output: its name, status, confidence, transform (null when refused) and milliseconds. Exit status: 0 done, 2
// misuse, 1 another error.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "fastretina.hpp"
#include "fastretina_openvino.h"
#include "frames.h"

namespace fr = fastretina::v1;

namespace {

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
