#pragma once
// How far a map has come, and progress bars that say so.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "manyhands/base/clock.hpp"

namespace manyhands {

struct Progress {
  std::uint64_t done = 0;              // items finished, the failed ones too
  std::optional<std::uint64_t> total;  // nothing for a stream whose length is not known
  std::uint64_t failed = 0;
  Duration elapsed{};  // since the map was submitted
};

using ProgressFunction = std::function<void(const Progress&)>;

struct ProgressBarOptions {
  int fd = 2;  // where to write: standard error
  // Draw a bar (true) or print lines (false); default: whether fd is a terminal.
  std::optional<bool> terminal = {};
  Duration line_every = std::chrono::seconds(10);  // without a terminal: time between lines
};

// A progress bar for MapOptions::progress: on a terminal a bar with rate, time left and failures, drawn over
// itself; elsewhere a plain line every `line_every` and one at the end. Each call makes a bar of its own. One
// thread at a time.
ProgressFunction progress_bar(std::string_view title = {}, ProgressBarOptions options = {});

namespace task {

// The text of a bar, without the leading carriage return: "cubes  42% |####      | 42/100
// [00:03<00:04, 14.0/s]".
std::string bar_text(std::string_view title, const Progress& progress, int width);
// The plain line: "cubes: 42 of 100 (42%), 14.0/s, 00:04 left".
std::string line_text(std::string_view title, const Progress& progress);

// Passes progress on to the user at most ten times a second. One thread.
class ProgressTicker {
 public:
  explicit ProgressTicker(const ProgressFunction& function) noexcept : function_(function) {}
  explicit operator bool() const noexcept { return static_cast<bool>(function_); }
  // Time until the next report is due.
  Duration until_due() const noexcept;
  // Reports if it is due. Calls the user's function.
  void tick(const Progress& progress);
  // Reports in any case.
  void finish(const Progress& progress) const;

 private:
  static constexpr Duration interval = std::chrono::milliseconds(100);
  const ProgressFunction& function_;
  std::int64_t next_ns_ = 0;
};

}  // namespace task
}  // namespace manyhands
