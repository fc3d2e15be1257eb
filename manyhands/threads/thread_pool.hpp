#pragma once
// ThreadPool: threads that run functions, with the verbs of every executor (task/executor.hpp).
//
// Nothing is packed: functions, arguments and results are ordinary C++ values, moved where possible. The
// threads share the program's memory, so a function that changes what others read must lock; and a crash is
// the program's.
//
// A task may wait for tasks of its own pool: it runs what it waits for itself, if nobody has begun it, and
// never anything else, so that a mutex may be held meanwhile. While it sleeps, another thread takes its
// place: so as many tasks go on as the pool has threads. (At most 256 threads more; a task that goes on after
// a wait does so at once, which may be one more at a time.) Ending the pool waits for what was submitted.
//
// Threads are started when they are first needed. If one cannot be, what needed it throws ResourceExhausted.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/task/executor.hpp"
#include "manyhands/threads/arena.hpp"
#include "manyhands/threads/thread_states.hpp"

namespace manyhands {

// Any thread.
class ThreadPool : public Verbs<ThreadPool> {
 public:
  // A pool of `threads` threads; 0: as many as cpu_count(). A blocking map's caller counts as one of them.
  // Throws Error for a number below 0 or above 1024.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool() { close(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Waits for all that was submitted; called by a task of this pool, for all other tasks. Blocks. From then
  // on nothing can be submitted: Error.
  void close();

  int size() const noexcept { return arena_->size(); }

  // As Verbs::map, with the items left where they are: the results come in place, this thread helps.
  template <class F, InputRange Range>
  auto map(F&& f, Range&& items, const MapOptions& options = {});

 private:
  friend class Verbs<ThreadPool>;

  void require_open() const;

  template <class F, class... Args>
  auto start_call(const CallOptions& options, F f, Args&&... args) {
    using R = wire::ResultOf<F, wire::Travelling<Args>...>;
    require_open();
    auto state = std::make_shared<threads::ThreadCall<R, F, wire::Travelling<Args>...>>(
        arena_, options, next_number_.fetch_add(1, std::memory_order_relaxed), std::move(f),
        std::forward<Args>(args)...);
    arena_->post(state);
    return AsyncResult<R>(std::move(state));
  }

  template <class F, class Range>
  auto start_map(const MapOptions& options, F f, Range&& items) {
    using T = ItemType<Range>;
    using R = wire::ResultOf<F, T>;
    require_open();
    auto state = std::make_shared<threads::ThreadMap<R, F, T>>(arena_, this->with_seed(options), std::move(f),
                                                               kept<T>(std::forward<Range>(items)));
    arena_->post(state);
    return AsyncResult<task::MapValue<R>>(std::move(state));
  }

  // The items as an array of our own: the range's, if it is one that is given away, else copies.
  template <class T, class Range>
  static task::Items<T> kept(Range&& items) {
    if constexpr (std::is_same_v<Range, task::Items<T>>) {
      return std::forward<Range>(items);
    } else {
      task::Items<T> copies;
      for (auto&& item : items) copies.emplace_back(std::forward<decltype(item)>(item));
      return copies;
    }
  }

  std::shared_ptr<threads::ThreadArena> arena_;  // shared with results, which may be waited for later
  std::atomic<std::int64_t> next_number_{0};
  std::atomic<bool> closed_{false};
};

template <class F, InputRange Range>
auto ThreadPool::map(F&& f, Range&& items, const MapOptions& options) {
  using T = ItemType<Range>;
  using R = wire::ResultOf<std::decay_t<F>, T>;
  if constexpr (requires {
                  { std::ranges::data(items) } -> std::convertible_to<const T*>;
                  std::ranges::size(items);
                }) {
    require_open();
    const std::decay_t<F> function(std::forward<F>(f));
    threads::MapRun<R, std::decay_t<F>, T> run(function, std::ranges::data(items), std::ranges::size(items),
                                               arena_->size(), this->with_seed(options));
    task::ProgressTicker ticker(options.progress);
    const auto caller = std::this_thread::get_id();  // who waits for the map, and reports
    std::exception_ptr thrown;                       // by the user's progress function
    arena_->for_each_chunk(run.chunks(), [&](std::size_t chunk, int worker) {
      run.run_chunk(chunk, worker);
      if (!ticker || std::this_thread::get_id() != caller) return;
      try {
        ticker.tick(run.progress());
      } catch (...) {
        thrown = std::current_exception();
        run.stop();
      }
    });
    if (thrown) std::rethrow_exception(thrown);
    ticker.finish(run.progress());
    return run.take();
  } else {
    return Verbs<ThreadPool>::map(std::forward<F>(f), std::forward<Range>(items), options);
  }
}

}  // namespace manyhands
