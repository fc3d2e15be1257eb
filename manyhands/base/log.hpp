#pragma once
// What manyhands says on standard error beside its exceptions: one line each.
//
// MANYHANDS_LOG=debug|info|warn|off chooses how much. The default is warn, rare: "manyhands: TEXT". info
// tells of what went wrong and was dealt with, debug also of births, ends and long waits: "manyhands
// 17:03:11.204Z [PID] TEXT", in UTC.
//
// A line is one write, without a lock: any thread, and also a process that was forked while another thread
// wrote. What is not shown is not formatted. For sources only: users' headers do not include fmt.

#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace manyhands::log {

enum class Level { debug, info, warn, off };

bool shows(Level level) noexcept;

void write(Level level, std::string_view text) noexcept;

// Never throws: a line that cannot be made is left out.
template <class... Args>
void write(Level level, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (!shows(level)) return;
  try {
    write(level, std::string_view(fmt::format(format, std::forward<Args>(args)...)));
  } catch (...) {  // no memory
  }
}

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) noexcept {
  write(Level::debug, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) noexcept {
  write(Level::info, format, std::forward<Args>(args)...);
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) noexcept {
  write(Level::warn, format, std::forward<Args>(args)...);
}

}  // namespace manyhands::log
