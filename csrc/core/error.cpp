#include "core/error.h"

namespace fastretina {

InvalidArgument::InvalidArgument(const std::string& argument, const std::string& got, const std::string& allowed)
    : std::invalid_argument(argument + ": got " + got + ", expected " + allowed) {}

void require(bool ok, const char* argument, const std::string& got, const char* allowed) {
  if (!ok) throw InvalidArgument(argument, got, allowed);
}

void require(bool ok, const char* argument, const char* got, const char* allowed) {
  if (!ok) throw InvalidArgument(argument, got, allowed);
}

}  // namespace fastretina
