// Misuse is an error: one exception that names the argument, what was got and what is allowed. A network that answers
// nonsense is another: no caller's argument is to blame.
// (Failure to register is data, not an error: see quality/quality.h.)
#pragma once

#include <stdexcept>
#include <string>

namespace fastretina {

struct InvalidArgument : std::invalid_argument {
  InvalidArgument(const std::string& argument, const std::string& got, const std::string& allowed);
};

// A network that is broken or not what it says it is.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws InvalidArgument unless `ok`. Where all is well nothing allocates: a literal is taken as it is, and a number or
// two sides fit into a string without.
void require(bool ok, const char* argument, const std::string& got, const char* allowed);
void require(bool ok, const char* argument, const char* got, const char* allowed);

}  // namespace fastretina
