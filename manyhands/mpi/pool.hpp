#pragma once
// mpi::Pool: the executor over the ranks of a communicator, without spawning anything.
//
//   mh::mpi::Pool pool(mh::mpi::world());   // ranks 1, 2, ... run tasks in here until rank 0 closes its pool
//   if (pool) {                             // rank 0
//     auto squares = pool.map(f, xs, {.progress = mh::progress_bar("squares")});
//   }
//
// All of the verbs of task/executor.hpp. A task is a function's place in the executable and its packed state
// and arguments, as for processes; all ranks must run the same executable. Rank 0 hands out batches and keeps
// `prefetch` of them with every rank, so that none waits for the next (fewer towards the end, so that all end
// together); while it waits for results itself, it runs tasks too, and hands out work between them: in a wait
// with a time limit only those that are likely to end in time, by the longest call of their function that it
// has seen, unless it is alone. It makes progress in the pool's verbs and in those of its results only: there
// is no thread of its own, and continuations of `then` run there.
//
// A rank cannot be killed without the job: a deadline is reported when its task has ended, as with threads,
// and a task that runs cannot be cancelled; one that waits can. A rank that dies ends the job
// (environment.hpp).

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/pool_driver.hpp"
#include "manyhands/task/executor.hpp"

namespace manyhands::mpi {

struct PoolOptions {
  bool driver_works = true;  // rank 0 runs tasks while it waits for results; always if it is alone
  int prefetch = 3;          // batches that a rank has at a time, running and waiting; at least 1
  // Runs once on each rank that runs tasks, before any of them; given on all ranks or on none. If it throws
  // on a rank, the pool is not made: an Error on all, with its text.
  std::function<void()> initializer = {};
};

// One thread: on rank 0, the one that made it.
class Pool : public Verbs<Pool> {
 public:
  // Collective. On rank 0 it returns at once; on the other ranks when rank 0's pool is closed or destroyed.
  // Throws Error if the ranks do not run the same executable.
  explicit Pool(const Comm& comm, const PoolOptions& options = {});
  // Waits for what was submitted, as close(); while an exception passes, drops what has not started.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // True on rank 0, where the verbs may be called; they throw Error elsewhere and once the pool is closed.
  explicit operator bool() const noexcept { return driver_ != nullptr; }
  // The ranks that run tasks.
  int size() const noexcept { return size_; }
  // Waits for all that was submitted and lets the other ranks go. Blocks.
  void close();

 private:
  friend class Verbs<Pool>;

  template <class F, class... Args>
  auto start_call(const CallOptions& options, F f, Args&&... args) {
    return start_call_of<F, wire::Travelling<Args>...>(options, f, std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto start_call_of(const CallOptions& options, const F& f, const Args&... args) {
    static_assert(wire::can_call<F, Args...>,
                  "the function cannot be called with these arguments (as copies of them)");
    using R = wire::ResultOf<F, Args...>;
    static_assert(
        wire::TravellingResult<R>,
        "the function's result cannot travel between ranks: make it an aggregate of packable members, or "
        "specialise manyhands::wire::Codec<R>");
    detail::PoolDriver& driver = this->driver();
    wire::Writer writer;
    wire::pack_call<F>(writer, f, wire::Reach::other_process, args...);
    auto state = std::make_shared<detail::PoolCall<R>>(driver_);
    driver.submit(wire::call_thunk<F, Args...>(), writer.bytes(), options, state);
    return AsyncResult<R>(std::move(state));
  }

  template <class F, class Range>
  auto start_map(const MapOptions& options, F f, Range&& items) {
    using T = ItemType<Range>;
    static_assert(wire::Packable<T>,
                  "the items of this map cannot travel between ranks: make their type an aggregate of "
                  "packable members, "
                  "or specialise manyhands::wire::Codec<T>");
    static_assert(wire::can_call<F, T>,
                  "the function cannot be called with an item of this range (as a copy)");
    using R = wire::ResultOf<F, T>;
    static_assert(
        wire::TravellingResult<R>,
        "the function's result cannot travel between ranks: make it an aggregate of packable members, or "
        "specialise manyhands::wire::Codec<R>");
    detail::PoolDriver& driver = this->driver();
    detail::MapRequest request{.thunk = wire::range_thunk<F, T>(), .options = this->with_seed(options)};
    wire::Writer writer;
    for (auto&& item : items) {
      const T& value = item;
      if constexpr (wire::Plain<T>) {
        const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
        request.items.insert(request.items.end(), bytes, bytes + sizeof(T));
      } else {
        writer.clear();
        wire::pack<T>(writer, value);
        request.ends.push_back(request.items.size() + writer.bytes().size());
        request.items.insert(request.items.end(), writer.bytes().begin(), writer.bytes().end());
      }
      ++request.count;
    }
    if constexpr (wire::Plain<T>) request.item_size = sizeof(T);
    if constexpr (wire::Plain<R>) request.result_size = sizeof(R);
    writer.clear();
    wire::pack_callable(writer, f);
    request.state.assign(writer.bytes().begin(), writer.bytes().end());
    using Value = task::MapValue<R>;
    auto state = std::make_shared<detail::PoolMap<R>>(driver_, request.count);
    if (request.count == 0) {
      state->end();
    } else {
      driver.start_map(std::move(request), state);
    }
    return AsyncResult<Value>(std::move(state));
  }

  detail::PoolDriver& driver() const;

  std::shared_ptr<detail::PoolDriver> driver_;  // on rank 0; shared with results
  int size_ = 0;
  int exceptions_;
};

}  // namespace manyhands::mpi
