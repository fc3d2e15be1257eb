#include "manyhands/base/log.hpp"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <iterator>

namespace manyhands::log {
namespace {

constexpr std::array<std::string_view, 4> names{"debug", "info", "warn", "off"};  // as Level

void write_line(Level chosen, std::string_view text) noexcept {
  try {
    fmt::memory_buffer line;
    if (chosen < Level::warn) {
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME, &now);  // no local time: that takes a lock
      const auto seconds = now.tv_sec % 86400;
      fmt::format_to(std::back_inserter(line), "manyhands {:02}:{:02}:{:02}.{:03}Z [{}] {}\n", seconds / 3600,
                     seconds / 60 % 60, seconds % 60, now.tv_nsec / 1'000'000, ::getpid(), text);
    } else {
      fmt::format_to(std::back_inserter(line), "manyhands: {}\n", text);
    }
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  } catch (...) {  // no memory
  }
}

// As the environment says at the first call.
Level chosen_level() noexcept {
  static const Level level = [] {
    const char* const wanted = std::getenv("MANYHANDS_LOG");
    if (wanted == nullptr || *wanted == '\0') return Level::warn;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (wanted == names[i]) return static_cast<Level>(i);
    }
    write_line(Level::warn, "MANYHANDS_LOG must be debug, info, warn or off, and is something else");
    return Level::warn;
  }();
  return level;
}

}  // namespace

bool shows(Level level) noexcept { return level >= chosen_level(); }

void write(Level level, std::string_view text) noexcept {
  if (shows(level)) write_line(chosen_level(), text);
}

}  // namespace manyhands::log
