#include "network/toml.h"

#include <charconv>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/escape.h"

namespace fastretina {
namespace {

constexpr int kDeepest = 16;  // arrays in arrays: the reader calls itself

bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  TomlValues read() {
    for (skip_lines(); !at_end(); skip_lines()) {
      if (take('['))
        table();
      else
        pair();
      end_of_line();
    }
    return std::move(values_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw EngineError("line " + std::to_string(line_) + ": " + what);
  }

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  char next() {
    if (at_end()) fail("the text ends too early");
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    next();
    return true;
  }

  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t') next();
  }
  void skip_comment() {
    if (peek() == '#')
      while (!at_end() && peek() != '\n') next();
  }
  void skip_lines() {
    for (;;) {
      skip_spaces();
      skip_comment();
      if (!take('\n') && !take('\r')) return;
    }
  }
  void end_of_line() {
    skip_spaces();
    skip_comment();
    take('\r');
    if (!at_end() && !take('\n')) fail("expected the end of the line");
  }

  std::string key_part() {
    if (peek() == '"' || peek() == '\'') return text();
    std::string part;
    while (is_bare(peek())) part += next();
    if (part.empty()) fail("expected a key");
    return part;
  }
  std::string key() {
    std::string whole;
    for (;;) {
      skip_spaces();
      whole += key_part();
      skip_spaces();
      if (!take('.')) return whole;
      whole += '.';
    }
  }

  void table() {
    if (peek() == '[') fail("arrays of tables are not read here");
    table_ = key() + '.';
    if (!take(']')) fail("expected ]");
  }
  void pair() {
    std::string name = table_ + key();
    if (!take('=')) fail("expected =");
    skip_spaces();
    TomlValue read = value(0);
    const auto [place, fresh] = values_.emplace(std::move(name), std::move(read));
    if (!fresh) fail(place->first + " is there twice");
  }

  TomlValue value(int depth) {
    const char c = peek();
    if (c == '"' || c == '\'') return text();
    if (c == '[') return array(depth + 1);
    if (c == '{') fail("inline tables are not read here");
    std::string word;
    while (is_bare(peek()) || peek() == '.' || peek() == '+' || peek() == ':') word += next();
    if (word == "true" || word == "false") return word == "true";
    return number(word);
  }

  TomlValue array(int depth) {
    if (depth > kDeepest) fail("arrays are nested too deeply");
    next();
    for (skip_lines(); !take(']'); skip_lines()) {
      value(depth);
      skip_lines();
      if (!take(',') && peek() != ']') fail("expected , or ]");
    }
    return std::monostate{};
  }

  TomlValue number(const std::string& word) const {
    const char *begin = word.data(), *end = begin + word.size();
    std::int64_t integer = 0;
    if (const auto [stop, error] = std::from_chars(begin, end, integer); error == std::errc{} && stop == end)
      return integer;
    double real = 0;
    const bool plain = word.find_first_not_of("0123456789+-.eE") == std::string::npos;
    if (const auto [stop, error] = std::from_chars(begin, end, real); plain && error == std::errc{} && stop == end)
      return real;
    fail("expected a string, a number, true, false or an array");
  }

  std::string text() {
    const char quote = next();
    std::string out;
    for (;;) {
      const char c = next();
      if (c == quote) return out;
      if (c == '\n') fail("a string does not end on its line");
      if (c == '\\' && quote == '"')
        escape(out);
      else
        out += c;
    }
  }
  void escape(std::string& out) {
    constexpr std::string_view kNames = "btnfr\"\\", kMeanings = "\b\t\n\f\r\"\\";
    const char c = next();
    if (c == 'u') {
      const std::int32_t code = hex4(text_.substr(at_));
      if (code < 0) fail("\\u needs four hexadecimal digits");
      at_ += 4;
      append_utf8(out, code);
      return;
    }
    const std::size_t i = kNames.find(c);
    if (i == std::string_view::npos) fail("an escape that is not read here");
    out += kMeanings[i];
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::string table_;
  TomlValues values_;
};

}  // namespace

TomlValues read_toml(std::string_view text) { return Reader(text).read(); }

}  // namespace fastretina
