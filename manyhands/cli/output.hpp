#pragma once
// Output on its way from the programs of a job to our own standard output and error. One thread.

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace manyhands::cli {

// Standard output or error of ours: written only when it takes something, so that a slow reader blocks
// nothing else.
class Sink {
 public:
  static constexpr std::size_t max_queued =
      1 << 20;  // bytes; then the programs have to wait until they are taken

  explicit Sink(int fd) : fd_(fd) {}
  void add(std::string_view text) {
    if (text.empty()) return;
    is_in_line_ = text.back() != '\n';
    if (!broken_) queue_ += text;
  }
  bool is_in_line() const { return is_in_line_; }  // what was written last has begun a line
  bool has_work() const { return !queue_.empty(); }
  bool is_full() const { return queue_.size() > max_queued; }
  bool is_broken() const { return broken_; }
  int fd() const { return fd_; }

  // Requires: poll said that it can be written to. A pipe then takes PIPE_BUF bytes at least.
  void write_some() {
    const ssize_t written = ::write(fd_, queue_.data(), std::min<std::size_t>(queue_.size(), PIPE_BUF));
    if (written >= 0) {
      queue_.erase(0, static_cast<std::size_t>(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      broken_ = true;  // nobody reads it any more
      queue_.clear();
    }
  }

  // Blocking, for the end.
  void write_all() {
    while (has_work()) {
      pollfd polled{fd_, POLLOUT, 0};
      ::poll(&polled, 1, -1);
      write_some();
    }
  }

 private:
  int fd_;
  bool broken_ = false;
  bool is_in_line_ = false;
  std::string queue_;
};

// Whether the beginning of a line is to be shown before its end has come, if that takes long. A longer one
// comes in parts of at least 4096 bytes, and slowly on a busy machine; shown, it would be cut by lines of
// other ranks.
inline bool is_prompt(std::string_view begun) noexcept { return !begun.empty() && begun.size() <= 1024; }

// Cuts a stream into lines.
class Lines {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t max_line = 1 << 20;  // bytes; a longer one is handed on in parts

  template <class OnLine>
  void feed(std::string_view bytes, OnLine on_line) {
    feed(bytes, on_line, on_line);
  }
  // on_part: the beginning of a long line whose end has not come.
  template <class OnLine, class OnPart>
  void feed(std::string_view bytes, OnLine on_line, OnPart on_part) {
    const std::size_t searched = text_.size();  // no end is in there
    text_ += bytes;
    last_ = Clock::now();
    std::size_t start = 0;
    for (std::size_t end; (end = text_.find('\n', std::max(start, searched))) != std::string::npos;
         start = end + 1)
      on_line(text_.substr(start, end - start));
    text_.erase(0, start);
    if (text_.size() > max_line) on_part(std::exchange(text_, {}));
  }
  std::string take_rest() { return std::exchange(text_, {}); }
  // A line that has begun, and may be a question to the user.
  bool has_prompt() const { return is_prompt(text_); }
  Clock::time_point last() const { return last_; }

 private:
  std::string text_;  // a line that has begun
  Clock::time_point last_;
};

}  // namespace manyhands::cli
