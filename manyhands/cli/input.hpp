#pragma once
// Our standard input on its way to the ranks that read it. One thread.
//
// Where one rank reads and the input is no terminal, that rank has the very descriptor, and nothing is read
// here: so a rank takes no more of it than a program does that is started without MPI, and a shell's loop
// (`while read line; do manyhands run ...; done`) keeps the rest. A terminal is read here, since ranks are
// not in its foreground; so is what every rank is to have a copy of.

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <list>
#include <string>
#include <utility>

#include "manyhands/base/error.hpp"
#include "manyhands/base/unique_fd.hpp"

namespace manyhands::cli {

// Copies standard input to pipes.
class Feeder {
 public:
  // `readers`: the pipes that are going to be made.
  explicit Feeder(int readers) : awaited_(readers) {}

  // The end to read from of a pipe that is fed from now on, from the input's beginning. Throws Error.
  UniqueFd make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("make a pipe for standard input");
    UniqueFd from(ends[0]);
    readers_.push_back({UniqueFd(ends[1]), 0});
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    --awaited_;
    return from;
  }

  // Whether our standard input is to be polled. Not while the quickest reader has enough, and not while we
  // are in the background of a terminal, where a read fails.
  bool wants_input() const { return has_room() && !is_in_background(); }
  // Whether that may change without an event: the terminal's foreground.
  bool waits_for_terminal() const { return has_room() && is_in_background(); }

  // Requires: poll said that standard input can be read.
  void read_some() {
    std::array<char, 65536> bytes;
    const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got > 0) {
      text_.append(bytes.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR && !is_in_background())) {
      is_at_end_ = true;
    }
    write_some();
  }

  // Hands on what the pipes take; closes them behind the end.
  void write_some() {
    for (auto& reader : readers_) {
      while (reader.at < text_.size()) {
        const ssize_t written =
            ::write(reader.pipe.get(), text_.data() + reader.at, text_.size() - reader.at);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno != EAGAIN) reader.pipe.reset();  // nobody reads it any more
        if (written < 0) break;
        reader.at += static_cast<std::size_t>(written);
      }
      if (is_at_end_ && reader.at == text_.size()) reader.pipe.reset();
    }
    readers_.remove_if([](const Reader& reader) { return !reader.pipe; });
    if (awaited_ > 0 || readers_.empty()) return;
    const std::size_t done = std::min_element(readers_.begin(), readers_.end(), by_place)->at;
    text_.erase(0, done);
    for (auto& reader : readers_) reader.at -= done;
  }

  // What write_some() waits for: calls visit(descriptor) for each pipe that is full.
  template <class Visit>
  void for_each_full(Visit visit) const {
    for (const auto& reader : readers_) {
      if (reader.at < text_.size()) visit(reader.pipe.get());
    }
  }

 private:
  struct Reader {
    UniqueFd pipe;
    std::size_t at;  // in text_
  };
  static bool by_place(const Reader& a, const Reader& b) { return a.at < b.at; }

  bool has_room() const {
    if (is_at_end_ || readers_.empty()) return false;
    return text_.size() - std::max_element(readers_.begin(), readers_.end(), by_place)->at < (1 << 16);
  }
  static bool is_in_background() {
    return ::isatty(STDIN_FILENO) != 0 && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp();
  }

  int awaited_;
  bool is_at_end_ = false;
  std::string text_;  // what the slowest reader has not; from the beginning while more readers are awaited
  std::list<Reader> readers_;
};

}  // namespace manyhands::cli
