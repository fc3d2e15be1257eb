#pragma once
// What the tests of whole processes share: flags between processes, and a look at who is still alive.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/base/clock.hpp"

namespace manyhands::test {

// Looks at `condition` until it holds; false if it does not within `patience`. For what no call can wait for.
template <class Condition>
bool eventually(Condition condition, Duration patience = std::chrono::seconds(10)) {
  const Deadline deadline(patience);
  while (!condition()) {
    if (deadline.passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

// A file that tasks add to and tests read: how often, and that, something happened in another process. It
// travels as its path.
struct Flag {
  std::string path;

  void raise() const {
    const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    static_cast<void>(!::write(fd, "x", 1));
    ::close(fd);
  }
  std::size_t count() const {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 ? static_cast<std::size_t>(info.st_size) : 0;
  }
  bool wait(std::size_t times = 1) const {
    return eventually([&] { return count() >= times; });
  }
};

// Owns the file of a Flag.
class FlagFile {
 public:
  FlagFile() {
    std::string name = std::filesystem::temp_directory_path() / "manyhands-test-XXXXXX";
    ::close(::mkstemp(name.data()));
    flag_.path = name;
  }
  ~FlagFile() { ::unlink(flag_.path.c_str()); }
  FlagFile(const FlagFile&) = delete;
  FlagFile& operator=(const FlagFile&) = delete;

  const Flag& flag() const noexcept { return flag_; }
  const Flag* operator->() const noexcept { return &flag_; }

 private:
  Flag flag_;
};

// The living processes (no zombies) that have `marker` in their environment.
inline std::vector<pid_t> processes_with(const std::string& marker) {
  std::vector<pid_t> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", none)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream environment(entry.path() / "environ", std::ios::binary);
    std::stringstream text;
    text << environment.rdbuf();
    if (text.str().find(marker) != std::string::npos) found.push_back(std::stoi(name));
  }
  return found;
}

// Whether a process runs: neither ended, nor a zombie.
inline bool is_running(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  const auto name_end = text.rfind(')');
  return name_end != std::string::npos && name_end + 2 < text.size() && text[name_end + 2] != 'Z';
}

// Whether the system tells the end of a child that somebody else has waited for (base/pidfd.hpp).
inline bool reaped_ends_are_told() {
  utsname system{};
  int major = 0;
  int minor = 0;
  ::uname(&system);
  return std::sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 15));
}

inline std::size_t files_in(const char* folder) {
  std::error_code none;
  const std::filesystem::directory_iterator files(folder, none);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

// The program of victim.cpp.
inline std::string victim() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "victim";
}

// Another program, run as a child with its stderr caught and a marker in its environment.
class Program {
 public:
  Program(const std::string& path, const std::vector<std::string>& arguments)
      : marker_("MANYHANDS_TEST=" + std::to_string(::getpid()) + "-" + std::to_string(now_ns())) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    stderr_ = ends[0];
    ::fcntl(stderr_, F_SETFL, O_NONBLOCK);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDERR_FILENO);
      ::putenv(marker_.data());
      std::vector<char*> argv{const_cast<char*>(path.c_str())};
      for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv(path.c_str(), argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
  }
  ~Program() {
    ::kill(pid_, SIGKILL);
    if (!ended_) ::waitpid(pid_, nullptr, 0);
    ::close(stderr_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int signal) const { ::kill(pid_, signal); }
  // Blocks until it ends, and takes what it writes meanwhile; its status as of waitpid.
  int wait() {
    const int ended = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    std::array<pollfd, 2> polled{{{ended, POLLIN, 0}, {stderr_, POLLIN, 0}}};
    while (::poll(polled.data(), polled.size(), -1) >= 0 && polled[0].revents == 0) {
      if (!take_errors()) polled[1].fd = -1;
    }
    ::close(ended);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    ended_ = true;
    return status;
  }
  // What it wrote to stderr; blocks until all who hold it have closed it.
  std::string errors() {
    pollfd polled{stderr_, POLLIN, 0};
    while (take_errors()) ::poll(&polled, 1, -1);
    return errors_;
  }
  std::vector<pid_t> alive() const { return processes_with(marker_); }
  pid_t pid() const noexcept { return pid_; }

 private:
  // Reads what is there; false once nobody can write any more.
  bool take_errors() {
    std::array<char, 4096> part{};
    ssize_t size = 0;
    while ((size = ::read(stderr_, part.data(), part.size())) > 0)
      errors_.append(part.data(), static_cast<std::size_t>(size));
    return size < 0;
  }

  std::string marker_;
  std::string errors_;
  int stderr_ = -1;
  pid_t pid_ = -1;
  bool ended_ = false;
};

}  // namespace manyhands::test
