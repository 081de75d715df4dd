// Manifests and weights: read as Python reads them, and refused when they are not what they should be.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "filter_engine.h"
#include "network/manifest.h"
#include "network/sha256.h"
#include "network/toml.h"

using namespace fastretina;

namespace {

void hashes_are_those_of_the_standard() {  // FIPS 180-4's examples, and lengths around a block's end
  CHECK(sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(sha256(two.data(), two.size()) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string many(1000000, 'a');
  CHECK(sha256(many.data(), many.size()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void toml_is_read() {
  const TomlValues values = read_toml(
      "# a comment\r\ntext = \"a \\\"b\\\" \\u00e9\" # another\nraw = 'c:\\d'\nn = -12\nx = 2.5e-3\nyes = true\n\n"
      "[a.\"b\"]\nlist = [1, [\"x\", 'y'], # here\n  true,\n]\nc.d = 7");
  CHECK(std::get<std::string>(values.at("text")) == "a \"b\" \xC3\xA9" &&
        std::get<std::string>(values.at("raw")) == "c:\\d");
  CHECK(std::get<std::int64_t>(values.at("n")) == -12 && std::get<double>(values.at("x")) == 2.5e-3);
  CHECK(std::get<bool>(values.at("yes")) && std::get<std::int64_t>(values.at("a.b.c.d")) == 7 &&
        values.contains("a.b.list"));
}

template <class Read>
bool refused(Read&& read, const std::string& words) {
  try {
    read();
  } catch (const EngineError& error) {
    return std::string(error.what()).find(words) != std::string::npos;
  }
  return false;
}

void what_is_no_toml_is_told_with_its_line() {
  for (const char* text :
       {"a", "a =", "a = ", "= 1", "a = \"x", "a = 'x\n'", "[a", "[[a]]", "a = {b = 1}", "a = 1 2", "a = [1",
        "a = [1 2]", "a = 1979-05-27", "a = \"\\x\"", "a = \"\\u12\"", "a = nan", "a = 99999999999999999999e999"})
    CHECK(refused([&] { read_toml(std::string("ok = 1\n") + text); }, "line "));
  CHECK(refused([&] { read_toml("a = 1\nb = 2\na = 3\n"); }, "line 3"));
  CHECK(refused([&] { read_toml("a = " + std::string(100000, '[')); }, "deep"));
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kFilterManifest;
  const std::size_t at = text.find(from);
  CHECK(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void facts_are_checked() {
  const Manifest m = read_manifest(kFilterManifest);
  CHECK(m.name == "filters" && m.multiple == 8 && m.dims == 64 && m.f32.name == "none.onnx" && m.int8.name.empty());
  CHECK(refused([&] { read_manifest(with("name = \"filters\"\n", "")); }, "name is missing"));
  CHECK(refused([&] { read_manifest(with("pad_multiple = 8", "pad_multiple = 6")); }, "multiple of 4"));
  CHECK(refused([&] { read_manifest(with("pad_multiple = 8", "pad_multiple = \"8\"")); }, "integer"));
  CHECK(refused([&] { read_manifest(with("dims = 64", "dims = 0")); }, "descriptor_dims"));
  CHECK(refused([&] { read_manifest(with("dims = 64", "dims = 64\nstride = 8")); }, "stride"));
  const Manifest tuned = read_manifest(kFilterManifest + "[confidence]\nbias = -3\noverlap = 0.5\n");
  CHECK(tuned.confidence.bias == -3 && tuned.confidence.overlap == 0.5);
  CHECK(tuned.confidence.coverage == ConfidenceModel{}.coverage && m.confidence.bias == ConfidenceModel{}.bias);
  CHECK(refused([&] { read_manifest(kFilterManifest + "[confidence]\nluck = 1\n"); }, "luck"));
  CHECK(refused([&] { read_manifest(kFilterManifest + "[confidence]\nbias = true\n"); }, "no number"));
  CHECK(m.working_size == 0 && read_manifest(with("dims = 64", "dims = 64\nworking_size = 512")).working_size == 512);
  CHECK(refused([&] { read_manifest(with("dims = 64", "dims = 64\nworking_size = 9")); }, "working_size"));
  CHECK(refused([&] { read_manifest(with("none.onnx", "../none.onnx")); }, "folder"));
  CHECK(refused([&] { read_manifest(with("000", "xyz")); }, "sha256"));
  CHECK(refused([&] { read_manifest(with("[weights.onnx]", "[weights.other]")); }, "weights.onnx.file"));
}

// The shipped files, then spoiled copies of them.
struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "fastretina_test_model";
  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directory(path);
    std::filesystem::copy_file(ENGINES "/retina.toml", path / "retina.toml");
    std::filesystem::copy_file(WEIGHTS "/retina.onnx", path / "retina.onnx");
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

fastretina_error load_file(FilterEngine& engine, const std::filesystem::path& manifest, fastretina_precision precision,
                           fastretina_model** model) {
  const fastretina_engine callbacks = engine.callbacks();
  return fastretina_model_load(manifest.string().c_str(), precision, &callbacks, model);
}

void shipped_weights_load_and_spoiled_ones_do_not() {
  const Folder folder;
  FilterEngine engine;
  fastretina_model* model = nullptr;
  CHECK(load_file(engine, folder.path / "retina.toml", FASTRETINA_PRECISION_AUTO, &model) == FASTRETINA_SUCCESS);
  fastretina_model_info info;
  CHECK(fastretina_model_describe(model, &info) == FASTRETINA_SUCCESS);
  CHECK(std::string(info.name) == "retina" && std::string(info.engine) == "filters" &&
        info.precision == FASTRETINA_PRECISION_F32);
  CHECK(std::string(info.weights_sha256) == read_manifest([&] {
                                              std::ifstream file(folder.path / "retina.toml");
                                              return std::string(std::istreambuf_iterator<char>(file), {});
                                            }())
                                                .f32.sha256);
  fastretina_model_destroy(model);
  model = nullptr;
  CHECK(load_file(engine, folder.path / "retina.toml", FASTRETINA_PRECISION_INT8, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("int8") && last_error_says("allowed: f32"));
  CHECK(load_file(engine, folder.path / "retina.toml", 9, &model) == FASTRETINA_INVALID_ARGUMENT);

  const auto onnx = folder.path / "retina.onnx";
  const auto size = std::filesystem::file_size(onnx);
  {
    std::fstream file(onnx, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size / 2));
    file.put(static_cast<char>(file.peek() ^ 1));
  }
  CHECK(load_file(engine, folder.path / "retina.toml", FASTRETINA_PRECISION_F32, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("truncated or altered") && last_error_says("retina.onnx"));
  std::filesystem::resize_file(onnx, size - 1);
  CHECK(load_file(engine, folder.path / "retina.toml", FASTRETINA_PRECISION_F32, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("truncated or altered"));
  std::filesystem::remove(onnx);
  CHECK(load_file(engine, folder.path / "retina.toml", FASTRETINA_PRECISION_F32, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("weights") && last_error_says("no file"));
  CHECK(load_file(engine, folder.path, FASTRETINA_PRECISION_F32, &model) == FASTRETINA_ENGINE_ERROR &&
        model == nullptr);
  CHECK(engine.released == 7);  // every load, good or bad, took the engine over
}

void engines_must_be_whole() {
  FilterEngine engine;
  fastretina_model* model = nullptr;
  fastretina_engine callbacks = engine.callbacks();
  callbacks.run = nullptr;
  CHECK(fastretina_model_load("x.toml", FASTRETINA_PRECISION_F32, &callbacks, &model) == FASTRETINA_INVALID_ARGUMENT);
  CHECK(last_error_says("engine") && engine.released == 1);
  CHECK(fastretina_model_load("x.toml", FASTRETINA_PRECISION_F32, nullptr, &model) == FASTRETINA_INVALID_ARGUMENT);
  callbacks = engine.callbacks();
  CHECK(fastretina_model_from_memory(kFilterManifest.data(), kFilterManifest.size(), "x", 1, FASTRETINA_PRECISION_F32,
                                     &callbacks, &model) == FASTRETINA_ENGINE_ERROR);
  CHECK(last_error_says("truncated or altered"));
}

}  // namespace

int main() {
  hashes_are_those_of_the_standard();
  toml_is_read();
  what_is_no_toml_is_told_with_its_line();
  facts_are_checked();
  shipped_weights_load_and_spoiled_ones_do_not();
  engines_must_be_whole();
  return 0;
}
