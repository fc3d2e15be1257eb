#include "manyhands/base/own_thread.hpp"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"

namespace manyhands {
namespace {

std::atomic<int> own_threads{0};  // of this process; from before one starts until it was joined

// For alone_in_process(), counted by the threads themselves: each is in /proc as long as it counts.
std::atomic<int> own_running{0};
std::atomic<unsigned> own_changes{0};  // starts and ends so far
std::atomic<int> errands{0};
constinit thread_local bool is_own = false;

void forget_threads_of_parent() noexcept {
  own_threads.store(0);
  own_running.store(0);
}

#if defined(__SANITIZE_THREAD__)
constexpr int tool_threads = 1;  // ThreadSanitizer's own, which it keeps out of forks
#else
constexpr int tool_threads = 0;
#endif

// 0 if /proc cannot be read.
int all_threads() noexcept {
  DIR* const threads = ::opendir("/proc/self/task");
  if (threads == nullptr) return 0;
  int count = 0;
  while (const dirent* entry = ::readdir(threads)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(threads);
  return count;
}

int other_threads() noexcept { return all_threads() - (is_own ? 0 : 1) - own_threads.load() - tool_threads; }

}  // namespace

OwnThread::OwnThread(std::function<void()> body) : process_(::getpid()) {
  static std::once_flag once;
  std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, forget_threads_of_parent); });
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  own_threads.fetch_add(1);
  try {
    thread_ = std::thread([body = std::move(body)]() mutable {
      is_own = true;
      own_changes.fetch_add(1);
      own_running.fetch_add(1);
      std::exchange(body, nullptr)();
      own_running.fetch_sub(1);
      own_changes.fetch_add(1);
    });
  } catch (const std::system_error& e) {
    own_threads.fetch_sub(1);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw SystemError(
        "start a thread of manyhands' own, which looks after workers and continuations (see ulimit -u)",
        e.code().value());
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

OwnThread& OwnThread::operator=(OwnThread&& other) noexcept {
  join();
  thread_ = std::move(other.thread_);
  process_ = other.process_;
  return *this;
}

void OwnThread::join() noexcept {
  if (!thread_.joinable()) return;
  if (process_ != ::getpid()) {
    new (&thread_) std::thread();  // what it named is not there to be joined or detached
    return;
  }
  if (is_current()) {
    thread_.detach();
  } else {
    thread_.join();
  }
  own_threads.fetch_sub(1);
}

Errand::Errand() noexcept { errands.fetch_add(1); }
Errand::~Errand() { errands.fetch_sub(1); }

int busy_threads() noexcept {
  const unsigned changes = own_changes.load();
  const int all = all_threads();
  const int own = own_running.load();
  if (all == 0 || errands.load() != 0 || own_changes.load() != changes) return 0;
  return all - own + (is_own ? 1 : 0);
}

bool alone_in_process() noexcept { return busy_threads() == 1; }

int foreign_threads() {
  // A joined thread may still be listed for a moment: the kernel tells the joiner first.
  const Deadline patience(std::chrono::milliseconds(20));
  int count = other_threads();
  while (count > 0 && !patience.passed()) {
    std::this_thread::yield();
    count = other_threads();
  }
  return std::max(0, count);
}

}  // namespace manyhands
