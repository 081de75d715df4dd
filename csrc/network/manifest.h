// What is known of a network: <name>.toml beside its weights. The same facts as python/fastretina/engines/manifest.py.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "quality/quality.h"

namespace fastretina {

struct Manifest {
  struct File {
    std::string name, sha256;  // empty: the network has none
  };

  std::string name;
  int multiple = 8;            // plane sizes are padded to a multiple of this
  int dims = 0;                // of a descriptor
  int working_size = 0;        // that the network is meant for, px; 0: the pipeline's own default
  ConfidenceModel confidence;  // what was fitted for this network; else the defaults
  File f32, int8;

  // bf16 and f16 run the f32 file.
  const File& weights(Precision precision) const { return precision == Precision::i8 ? int8 : f32; }
};

const char* precision_name(Precision precision);

// Throws EngineError where the text is no manifest of a network, naming the fact that is wrong.
Manifest read_manifest(std::string_view text);

// Throws EngineError unless `weights` is the file that the manifest names for `precision`.
void check_weights(const Manifest& manifest, Precision precision, const void* weights, std::size_t size);

// The content of a regular file. Throws EngineError("`what`: ...").
std::vector<std::byte> read_file(const std::string& path, const char* what);

}  // namespace fastretina
