#include "manyhands/base/child_process.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

namespace manyhands::detail {

void end_failed_child(const char* who, const std::exception* error) noexcept {
  // No allocation: memory may be what was lacking.
  std::array<char, 512> line{};
  const int size =
      std::snprintf(line.data(), line.size(), "manyhands: %s (pid %d) ended: %s\n", who, ::getpid(),
                    error != nullptr ? error->what() : "an exception of unknown type");
  if (size > 0) static_cast<void>(!::write(STDERR_FILENO, line.data(), std::strlen(line.data())));
  ::_exit(child_failed);
}

void end_child(int status) noexcept { ::_exit(status); }

}  // namespace manyhands::detail
