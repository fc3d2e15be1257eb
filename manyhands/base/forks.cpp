#include "manyhands/base/forks.hpp"

#include <pthread.h>

#include <atomic>

namespace manyhands {
namespace {

constinit std::atomic<int> count{0};  // written in a new process, before it has other threads

const bool counts = [] {
  ::pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });
  return true;
}();

}  // namespace

int forks() noexcept {
  static_cast<void>(counts);
  return count.load(std::memory_order_relaxed);
}

}  // namespace manyhands
