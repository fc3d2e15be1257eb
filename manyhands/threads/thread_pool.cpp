#include "manyhands/threads/thread_pool.hpp"

#include <fmt/core.h>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/log.hpp"

namespace manyhands {
namespace {

int checked(int threads) {
  if (threads < 0 || threads > 1024) {
    throw Error(fmt::format(
        "a pool of {} threads was asked for; it can have 1 to 1024, or 0 for one per core", threads));
  }
  return threads == 0 ? cpu_count() : threads;
}

}  // namespace

ThreadPool::ThreadPool(int threads) : arena_(std::make_shared<threads::ThreadArena>(checked(threads))) {
  log::debug("pool of {} threads opened", checked(threads));
}

void ThreadPool::require_open() const {
  arena_->require_threads();
  if (closed_.load()) throw Error("this pool of threads is closed; it takes no more tasks");
}

void ThreadPool::close() {
  arena_->drain();
  if (!closed_.exchange(true)) log::debug("pool of threads closed");
  arena_->callbacks().close();
  arena_->end_idle();
}

}  // namespace manyhands
