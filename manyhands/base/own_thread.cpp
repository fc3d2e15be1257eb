#include "manyhands/base/own_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>

#include "manyhands/base/clock.hpp"

namespace manyhands {
namespace {

std::atomic<int> own_threads{0};  // of this process, as threads are

#if defined(__SANITIZE_THREAD__)
constexpr int tool_threads = 1;  // ThreadSanitizer's own, which it keeps out of forks
#else
constexpr int tool_threads = 0;
#endif

int other_threads() {
  std::error_code none;
  const std::filesystem::directory_iterator threads("/proc/self/task", none);
  return static_cast<int>(std::distance(begin(threads), end(threads))) - 1 - own_threads.load() -
         tool_threads;
}

}  // namespace

OwnThread::OwnThread(std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  own_threads.fetch_add(1);
  try {
    thread_ = std::thread(std::move(body));
  } catch (...) {
    own_threads.fetch_sub(1);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

OwnThread& OwnThread::operator=(OwnThread&& other) noexcept {
  join();
  thread_ = std::move(other.thread_);
  return *this;
}

void OwnThread::join() noexcept {
  if (!thread_.joinable()) return;
  if (is_current()) {
    thread_.detach();
  } else {
    thread_.join();
  }
  own_threads.fetch_sub(1);
}

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
