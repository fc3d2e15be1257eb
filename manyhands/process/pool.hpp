#pragma once
// Pool: worker processes that run functions, like Python's multiprocessing.Pool.
//
//   mh::Pool pool{4};
//   std::vector<double> ys = pool.map(f, xs);
//   mh::AsyncResult<double> y = pool.apply_async(f, 3.0);
//
// The verbs are those of every executor (task/executor.hpp). Functions, arguments and results travel as
// wire/call.hpp says: plain functions, lambdas with trivially copyable captures, packable function objects,
// mh::bind with state.
//
// A worker that dies fails the one task it ran (WorkerDied) and is replaced. Ending the pool waits for what
// was submitted; if an exception is passing by, it ends the workers at once. The program's death ends them,
// too.

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/process/crew.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/pool_states.hpp"
#include "manyhands/task/executor.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands {

// Any function without arguments that can travel; runs in each worker before its first task.
class Initializer {
 public:
  Initializer() = default;  // none
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, Initializer>)
  Initializer(const F& f) : thunk_(wire::call_thunk<std::decay_t<F>>()) {  // implicit: for {.initializer = f}
    wire::Writer writer;
    wire::pack_call<std::decay_t<F>>(writer, f, wire::Reach::other_process);
    call_.assign(writer.bytes().begin(), writer.bytes().end());
    given_ = true;
  }

  bool given() const noexcept { return given_; }
  const wire::Function& thunk() const noexcept { return thunk_; }
  const std::vector<std::byte>& call() const noexcept { return call_; }

 private:
  wire::Function thunk_;
  std::vector<std::byte> call_;  // packed
  bool given_ = false;
};

struct PoolOptions {
  // Runs in each worker before its first task. If it throws or dies, every task fails with InitializerFailed,
  // once and for all: the pool is not tried again.
  Initializer initializer = {};
  std::size_t max_tasks_per_worker =
      0;                           // then the worker is replaced; 0: never. Items of a map count one each
  std::uint64_t memory_limit = 0;  // bytes that a worker may add to what it has at its start; 0: no limit
  int retries = 0;                 // see CallOptions::retries
  Start start = Start::zygote;
};

// Any thread.
class Pool : public Verbs<Pool> {
 public:
  // A pool of `workers` worker processes; 0: as many as cpu_count(). Returns before they run. Throws Error if
  // a fork is not safe (other threads run and mh::init was not called), for more than 1024 or fewer than 0
  // workers, and for options that cannot be met.
  explicit Pool(int workers = 0, PoolOptions options = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Waits for all that was submitted, then ends the workers; nothing can be submitted afterwards. Blocks.
  void close();
  // Ends the workers now: what is queued or runs fails with Cancelled. Blocks until they are gone.
  void terminate();

  int size() const noexcept { return workers_; }
  // Process ids of the workers that run now, by number; 0 where one is starting.
  std::vector<int> pids();

 private:
  friend class Verbs<Pool>;

  template <class F, class... Args>
  auto start_call(const CallOptions& options, F f, Args&&... args) {
    return start_call_of<F, wire::Travelling<Args>...>(options, f, std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto start_call_of(const CallOptions& options, const F& f, const Args&... args);

  template <class F, class Range>
  auto start_map(const MapOptions& options, F f, Range&& items);
  template <class T, class Range>
    requires std::is_same_v<T, std::remove_cvref_t<decltype(*std::ranges::begin(std::declval<Range&>()))>>
  void pack_items(process::Crew& crew, Range& items, process::MapRequest& request);

  // The workers for the next call or map.
  std::shared_ptr<process::Crew> crew_for(int workers);

  int workers_;
  process::CrewOptions options_;
  int exceptions_;  // that were passing when the pool was made
  std::shared_ptr<process::Crew>
      crew_;  // shared with results; null with Start::fork, where each call has its own:
  std::mutex forked_mutex_;
  std::vector<std::shared_ptr<process::Crew>> forked_;  // guarded by forked_mutex_
};

// ---- Implementation.

template <class F, class... Args>
auto Pool::start_call_of(const CallOptions& options, const F& f, const Args&... args) {
  static_assert(wire::can_call<F, Args...>,
                "the function cannot be called with these arguments (as copies of them)");
  using R = wire::ResultOf<F, Args...>;
  static_assert(
      wire::TravellingResult<R>,
      "the function's result cannot travel between processes: make it an aggregate of packable members, or "
      "specialise manyhands::wire::Codec<R>");
  const auto crew = crew_for(1);
  thread_local wire::Writer writer(process::out_of_band_from);
  writer.clear();
  wire::pack_call<F>(writer, f, crew->reach(), args...);
  auto state = std::make_shared<process::PoolCall<R>>(crew);
  crew->submit(wire::call_thunk<F, Args...>(), writer, options, state);
  if (crew_ == nullptr) crew->seal();
  return AsyncResult<R>(std::move(state));
}

template <class T, class Range>
  requires std::is_same_v<T, std::remove_cvref_t<decltype(*std::ranges::begin(std::declval<Range&>()))>>
void Pool::pack_items(process::Crew& crew, Range& items, process::MapRequest& request) {
  process::PackedItems packed;
  // Items that the range makes on the fly are gone when the next one comes: nothing of them can be borrowed.
  constexpr bool stays = std::is_lvalue_reference_v<decltype(*std::ranges::begin(items))>;
  wire::Writer writer(stays ? process::out_of_band_from : wire::never_out_of_band);
  for (const auto& item : items) {
    writer.clear();
    wire::pack<T>(writer, item);
    packed.add(writer);
  }
  request.packed_input = packed.write(crew);
}

template <class F, class Range>
auto Pool::start_map(const MapOptions& options, F f, Range&& items) {
  using T = ItemType<Range>;
  static_assert(wire::Packable<T>,
                "the items of this map cannot travel between processes: make their type an aggregate of "
                "packable members, "
                "or specialise manyhands::wire::Codec<T>");
  static_assert(wire::can_call<F, T>, "the function cannot be called with an item of this range (as a copy)");
  using R = wire::ResultOf<F, T>;
  static_assert(
      wire::TravellingResult<R>,
      "the function's result cannot travel between processes: make it an aggregate of packable members, or "
      "specialise manyhands::wire::Codec<R>");
  using Value = task::MapValue<R>;

  process::MapRequest request{.thunk = wire::range_thunk<F, T>(), .options = options};
  constexpr bool in_one_array = wire::Plain<T> && requires {
    { std::ranges::data(items) } -> std::convertible_to<const T*>;
    std::ranges::size(items);
  };
  std::vector<T> gathered;  // items that do not lie in one array
  const T* plain = nullptr;
  if constexpr (in_one_array) {
    plain = std::ranges::data(items);
    request.items = std::ranges::size(items);
  } else {
    // Items that are packed one by one from where they lie; else they are gathered first.
    constexpr bool from_range = requires { std::ranges::size(items); } && !wire::Plain<T> &&
                                std::is_same_v<T, std::remove_cvref_t<decltype(*std::ranges::begin(items))>>;
    if constexpr (from_range) {
      request.items = std::ranges::size(items);
    } else {
      for (auto&& item : items) gathered.emplace_back(std::forward<decltype(item)>(item));
      plain = gathered.data();
      request.items = gathered.size();
    }
  }
  if (request.items == 0) return AsyncResult<Value>(process::empty_map_state<Value>());

  const auto crew = crew_for(workers_);
  auto state = std::make_shared<process::PoolMap<R>>(crew, request.items,
                                                     crew->chunk_size_for(request.items, options.chunk));
  if constexpr (wire::Plain<T>) {
    request.plain_input = {reinterpret_cast<const std::byte*>(plain), request.items * sizeof(T)};
  } else if (!gathered.empty()) {
    pack_items<T>(*crew, gathered, request);
  } else if constexpr (requires { pack_items<T>(*crew, items, request); }) {
    pack_items<T>(*crew, items, request);
  }
  if constexpr (wire::Plain<R> && !std::is_void_v<R>) request.output_size = sizeof(R);
  wire::Writer function(process::out_of_band_from);
  wire::pack_callable(function, f, crew->reach());
  request.state = function.bytes();
  request.state_buffers = function.buffers();
  state->started(crew->start_map(std::move(request), state));
  if (crew_ == nullptr) crew->seal();
  return AsyncResult<Value>(std::move(state));
}

}  // namespace manyhands
