#pragma once
// What the tests of shared primitives share: forked processes, a scheduler that takes notes, and the race
// detector switched on.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manyhands/shm/block.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/schedule.hpp"

namespace manyhands::test {

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What f throws, as text; "" if nothing.
template <class E, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return {};
}

// A forked process that runs `body` and ends by _exit: 0, or 1 if the body threw. Killed if nobody waited for
// it.
class Child {
 public:
  template <class Body>
  explicit Child(Body body, const char* name = nullptr) : pid_(::fork()) {
    if (pid_ != 0) return;
    try {
      if (name != nullptr) shm::name_this_process(name);
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "a child: %s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  ~Child() { kill(); }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&& other) noexcept {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    return *this;
  }

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // Its wait status; 0: it came to its end.
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

 private:
  pid_t pid_;
};

// Words in shared memory by which processes tell each other where they are.
class Words {
 public:
  std::atomic<std::uint32_t>& operator[](std::size_t i) const {
    return shm::at<std::array<std::atomic<std::uint32_t>, 64>>(block_->offset())[i];
  }

 private:
  shm::BlockPtr block_ = shm::Block::create(64 * 4, shm::BlockKind::raw);
};

// Stands in for mh::explore on the thread that makes it: everything goes on at once; what is not ready has
// `when_blocked` called first, as if another fiber ran.
class Recorder : public shm::Scheduler {
 public:
  Recorder() {
    shm::detail::watch.fetch_or(shm::detail::watch_explore);
    shm::detail::scheduler = this;
  }
  virtual ~Recorder() {
    shm::detail::scheduler = nullptr;
    shm::detail::watch.fetch_and(~std::uint32_t{shm::detail::watch_explore});
  }
  Recorder(const Recorder&) = delete;

  void step(const shm::Operation& operation, shm::Readiness ready) override {
    operations.push_back(operation);
    if (ready.holds == nullptr || ready.holds(ready.context)) return;
    run_others();
    if (!ready.holds(ready.context)) throw Blocked{};
  }
  bool step_or_time_out(const shm::Operation& operation, shm::Readiness ready) override {
    operations.push_back(operation);
    if (!ready.holds(ready.context)) run_others();
    return ready.holds(ready.context);
  }
  std::uint32_t start(std::string_view, void (*)(void*), void*) override { return 0; }
  bool ended(std::uint32_t) const override { return true; }

  // "load store release", and forgets them.
  std::string take() {
    std::string text;
    for (const auto& operation : std::exchange(operations, {})) {
      if (!text.empty()) text += ' ';
      text += shm::name_of(operation.kind);
    }
    return text;
  }

  struct Blocked {};  // thrown where a fiber would wait for ever
  std::vector<shm::Operation> operations;
  std::function<void()> when_blocked;

 private:
  void run_others() {
    if (!when_blocked) return;
    shm::detail::scheduler = nullptr;  // what it does is not this fiber's
    std::exchange(when_blocked, nullptr)();
    shm::detail::scheduler = this;
  }
};

// MANYHANDS_RACE=1 for the rest of this process, and of those that it forks.
inline void watch_races() { shm::race::watch(); }

// What `body` writes to stderr, by this process or by its children that end before it does.
template <class Body>
std::string stderr_of(Body body) {
  std::FILE* const file = std::tmpfile();
  std::fflush(stderr);
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(::fileno(file), STDERR_FILENO);
  ::fcntl(::fileno(file), F_SETFL, O_APPEND);
  body();
  std::fflush(stderr);
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  std::string text(static_cast<std::size_t>(std::max<off_t>(::lseek(::fileno(file), 0, SEEK_END), 0)), '\0');
  static_cast<void>(!::pread(::fileno(file), text.data(), text.size(), 0));
  std::fclose(file);
  return text;
}

}  // namespace manyhands::test
