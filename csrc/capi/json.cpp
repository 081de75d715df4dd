#include "capi/json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <system_error>

#include "core/error.h"
#include "core/escape.h"

namespace fastretina::capi {
namespace {

constexpr int kDeepest = 32;  // the parser calls itself

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json parse() {
    Json json = value(0);
    skip_spaces();
    if (at_ != text_.size()) fail("more after the end");
    return json;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw InvalidArgument("transform", std::string(what) + " at byte " + std::to_string(at_), "JSON");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void need(char c, const char* what) {
    if (!take(c)) fail(what);
  }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }
  bool word(std::string_view w) {
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }

  Json value(int depth) {
    if (depth > kDeepest) fail("values nested too deeply");
    skip_spaces();
    switch (peek()) {
      case '{':
        return {object(depth)};
      case '[':
        return {array(depth)};
      case '"':
        return {string()};
      default:
        break;
    }
    if (word("null")) return {nullptr};
    if (word("true")) return {true};
    if (word("false")) return {false};
    return {number()};
  }

  JsonObject object(int depth) {
    JsonObject out;
    ++at_;
    skip_spaces();
    if (take('}')) return out;
    do {
      skip_spaces();
      if (peek() != '"') fail("no name of a member");
      std::string name = string();
      skip_spaces();
      need(':', "no colon");
      out.insert_or_assign(std::move(name), value(depth + 1));
      skip_spaces();
    } while (take(','));
    need('}', "an object that does not end");
    return out;
  }

  JsonArray array(int depth) {
    JsonArray out;
    ++at_;
    skip_spaces();
    if (take(']')) return out;
    do {
      out.push_back(value(depth + 1));
      skip_spaces();
    } while (take(','));
    need(']', "an array that does not end");
    return out;
  }

  std::string string() {
    std::string out;
    for (++at_; !take('"'); ++at_) {
      if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20) fail("a string that does not end");
      if (text_[at_] != '\\') {
        out += text_[at_];
        continue;
      }
      ++at_;
      escape(out);
    }
    return out;
  }
  // Leaves at_ on the escape's last character.
  void escape(std::string& out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    if (peek() == 'u') {
      const std::int32_t code = hex4(text_.substr(at_ + 1));
      if (code < 0) fail("a wrong escape");
      at_ += 4;
      append_utf8(out, code);
      return;
    }
    const std::size_t i = at_ < text_.size() ? kNames.find(text_[at_]) : std::string_view::npos;
    if (i == std::string_view::npos) fail("a wrong escape");
    out += kMeanings[i];
  }

  bool digits() {
    const std::size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }
  double number() {
    const std::size_t start = at_;
    take('-');
    if (!take('0') && !digits()) fail("no value");
    if (take('.') && !digits()) fail("no digits after the point");
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (!take('+')) take('-');
      if (!digits()) fail("no digits of the exponent");
    }
    double out = 0;
    const auto result = std::from_chars(text_.data() + start, text_.data() + at_, out);
    if (result.ec != std::errc{}) fail("a number out of range");
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

const Json* Json::member(std::string_view name) const {
  const auto* object = as<JsonObject>();
  if (object == nullptr) return nullptr;
  const auto found = object->find(name);
  return found == object->end() ? nullptr : &found->second;
}

Json parse_json(std::string_view text) { return Parser(text).parse(); }

void append_number(std::string& out, double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) {  // Python writes 1e-05 and 1.5e+300, as to_chars does
    out += text;
    return;
  }
  if (text[0] == '-') {
    out += '-';
    text.remove_prefix(1);
  }
  std::string digits(1, text[0]);
  if (text[1] == '.') digits += text.substr(2, text.find('e') - 2);
  const auto n = static_cast<int>(digits.size());
  if (exponent < 0) {
    out += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  } else if (exponent + 1 >= n) {
    out += digits + std::string(static_cast<std::size_t>(exponent + 1 - n), '0') + ".0";
  } else {
    const auto whole = static_cast<std::size_t>(exponent + 1);
    out += digits.substr(0, whole) + '.' + digits.substr(whole);
  }
}

}  // namespace fastretina::capi
