#include "manyhands/base/error.hpp"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>

namespace manyhands {
namespace {

std::string system_text(std::string_view what, int error) {
  const char* name = strerrorname_np(error);
  const char* text = strerrordesc_np(error);
  return fmt::format("{}: {} ({})", what, text ? text : "unknown error", name ? name : std::to_string(error));
}

}  // namespace

SystemError::SystemError(std::string_view what, int error) : Error(system_text(what, error)), error_(error) {}

void throw_errno(std::string_view what) { throw SystemError(what, errno); }

}  // namespace manyhands
