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
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/process/crew.hpp"
#include "manyhands/process/errors.hpp"
#include "manyhands/process/pool_states.hpp"
#include "manyhands/process/shared_codec.hpp"
#include "manyhands/shm/array.hpp"
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
    shm::Parcel parcel;
    wire::Writer writer;
    wire::pack_call<std::decay_t<F>>(writer, f, wire::Reach::same_program);
    named_ = parcel.take();
    call_.assign(writer.bytes().begin(), writer.bytes().end());
    given_ = true;
  }

  bool given() const noexcept { return given_; }
  const wire::Function& thunk() const noexcept { return thunk_; }
  const std::vector<std::byte>& call() const noexcept { return call_; }
  const std::vector<shm::BlockPtr>& named() const noexcept { return named_; }

 private:
  wire::Function thunk_;
  std::vector<std::byte> call_;       // packed
  std::vector<shm::BlockPtr> named_;  // shared memory that it names
  bool given_ = false;
};

struct PoolOptions {
  // Runs in each worker before its first task. If it throws or dies, every task fails with InitializerFailed,
  // once and for all: the pool is not tried again.
  Initializer initializer = {};
  // Then the worker is replaced; 0: never. Items of a map count one each.
  std::size_t max_tasks_per_worker = 0;
  std::uint64_t memory_limit = 0;  // bytes that a worker may add to what it has at its start; 0: no limit
  int retries = 0;                 // see CallOptions::retries
  Start start = Start::zygote;
  Bind bind = Bind::none;  // on which cores the workers run
  // Threads that OpenMP, OpenBLAS, MKL or BLIS may use in each worker, so that workers times threads are not
  // more than there are cores; 0: its share of the cores, -1: not limited. What the user set by
  // OMP_NUM_THREADS and the like stays.
  int inner_threads = 0;
  // Made inside a worker: have all workers that were asked for, even if that is more than there are free
  // cores.
  bool oversubscribe = false;
};

// Any thread.
class Pool : public Verbs<Pool> {
 public:
  // A pool of `workers` worker processes; 0: as many as cpu_count(). A pool that is made inside a worker has
  // at most as many as there are free cores, and one (placement.hpp): size() tells. Returns before they run.
  // Throws Error if a fork is not safe (other threads run and mh::init was not called), for more than 1024 or
  // fewer than 0 workers, and for options that cannot be met.
  explicit Pool(int workers = 0, const PoolOptions& options = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // As map(), with the results written by the workers straight into `results`, an Array or a slice of one
  // with as many elements as there are items; returns it. Nothing is copied, not even the items if they lie
  // in an Array. Throws Error if the sizes differ. If the map fails, some elements may be written.
  template <class F, std::ranges::input_range Range, class R>
  Array<R> map_into(F f, Range&& items, const Array<R>& results, const MapOptions& options = {}) {
    return map_into_async(std::move(f), items, results, options).get();
  }
  template <class F, std::ranges::input_range Range, class R>
  AsyncResult<Array<R>> map_into_async(F f, Range&& items, const Array<R>& results,
                                       const MapOptions& options = {});
  // As map(), for results that stay in shared memory: a new Array, which other tasks can be given without a
  // copy.
  template <class F, std::ranges::input_range Range>
  auto map_shared(F f, Range&& items, const MapOptions& options = {}) {
    return map_shared_async(std::move(f), items, options).get();
  }
  template <class F, std::ranges::input_range Range>
  auto map_shared_async(F f, Range&& items, const MapOptions& options = {});

  // Waits for all that was submitted, then ends the workers; nothing can be submitted afterwards. Blocks.
  void close();
  // Ends the workers now: what is queued or runs fails with Cancelled. Blocks until they are gone.
  void terminate();

  int size() const noexcept { return workers_; }
  // Process ids of the workers that run now, by number; 0 where one is starting. Empty with Start::fork.
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
  // The map's state once it runs; nullptr if there are no items.
  template <class State, class F, class Range, class... StateArgs>
  std::shared_ptr<State> run_map(const MapOptions& options, F f, Range& items, process::MapRequest request,
                                 const StateArgs&... state_args);
  template <class T, class Range>
    requires std::is_same_v<T, std::remove_cvref_t<decltype(*std::ranges::begin(std::declval<Range&>()))>>
  void pack_items(process::Crew& crew, Range& items, process::MapRequest& request);

  // The workers for the next call or map.
  std::shared_ptr<process::Crew> crew_for(int workers);

  process::CpuTokens tokens_;
  int workers_;
  process::CrewOptions options_;
  int exceptions_;  // that were passing when the pool was made
  // Shared with results; null with Start::fork, where each call has its own.
  std::shared_ptr<process::Crew> crew_;
  enum class Life { open, closed, terminated };
  // Those that were forked; no more are from here on.
  std::vector<std::shared_ptr<process::Crew>> last_crews(Life life);
  std::mutex forked_mutex_;
  std::vector<std::shared_ptr<process::Crew>> forked_;  // guarded by forked_mutex_, as is the next
  Life life_ = Life::open;                              // with Start::fork; a crew knows it by itself
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
  wire::ThreadWriter writer(process::out_of_band_from);
  shm::Parcel parcel;
  wire::pack_call<F>(*writer, f, crew->reach(), args...);
  auto state = std::make_shared<process::PoolCall<R>>(crew);
  crew->submit(wire::call_thunk<F, Args...>(), *writer, options, state, parcel.take());
  if (crew_ == nullptr) crew->seal();
  return AsyncResult<R>(std::move(state));
}

template <class T, class Range>
  requires std::is_same_v<T, std::remove_cvref_t<decltype(*std::ranges::begin(std::declval<Range&>()))>>
void Pool::pack_items(process::Crew& crew, Range& items, process::MapRequest& request) {
  process::PackedItems packed;
  // Of items that a view makes, or may make, when one looks at them nothing can be borrowed.
  constexpr auto buffers =
      wire::HoldsElements<Range> ? wire::Writer::Buffers::borrowed : wire::Writer::Buffers::copied;
  wire::Writer writer(process::out_of_band_from);
  for (const auto& item : items) {
    writer.clear();
    const wire::Writer::Scope scope(writer, buffers);
    wire::pack<T>(writer, item);
    packed.add(writer);
  }
  request.packed_input = packed.write(crew);
}

template <class State, class F, class Range, class... StateArgs>
std::shared_ptr<State> Pool::run_map(const MapOptions& options, F f, Range& items,
                                     process::MapRequest request, const StateArgs&... state_args) {
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

  request.thunk = wire::range_thunk<F, T>();
  request.options = this->with_seed(options);
  constexpr bool in_one_array = wire::Plain<T> && requires {
    { std::ranges::data(items) } -> std::convertible_to<const T*>;
    std::ranges::size(items);
  };
  // Items in an mh::Array lie where the workers can read them.
  constexpr bool in_shared_array = in_one_array && requires {
    { items.block() } -> std::same_as<const shm::BlockPtr&>;
    items.first();
  };
  task::Items<T> gathered;  // items that do not lie in one array
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
  if (request.items == 0) return nullptr;

  shm::Parcel parcel;
  const auto crew = crew_for(workers_);
  auto state = std::make_shared<State>(crew, request.items,
                                       crew->chunk_size_for(request.items, options.chunk), state_args...);
  if constexpr (in_shared_array) {
    request.input_place = items.block()->offset() + items.first() * sizeof(T);
    shm::Parcel::add(items.block());
  } else if constexpr (wire::Plain<T>) {
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
  for (auto& block : parcel.take()) request.named.push_back(std::move(block));
  state->started(crew->start_map(std::move(request), state));
  if (crew_ == nullptr) crew->seal();
  return state;
}

template <class F, class Range>
auto Pool::start_map(const MapOptions& options, F f, Range&& items) {
  using R = wire::ResultOf<F, ItemType<Range>>;
  using Value = task::MapValue<R>;
  auto state = run_map<process::PoolMap<R>>(options, std::move(f), items, {});
  if (state == nullptr) return AsyncResult<Value>(process::empty_map_state<Value>());
  return AsyncResult<Value>(std::move(state));
}

template <class F, std::ranges::input_range Range, class R>
AsyncResult<Array<R>> Pool::map_into_async(F f, Range&& items, const Array<R>& results,
                                           const MapOptions& options) {
  using Result = wire::ResultOf<F, ItemType<Range>>;
  static_assert(std::is_same_v<Result, R>,
                "map_into: the Array's elements must be of the type that the function returns");
  static_assert(wire::Plain<R>,
                "map_into: results of this type cannot lie in an Array as plain bytes; use map()");
  if constexpr (requires { std::ranges::size(items); })
    process::require_room(std::ranges::size(items), results.size());
  process::MapRequest request;
  if (results.block() != nullptr) {
    request.output_place = results.block()->offset() + results.first() * sizeof(R);
    request.named.push_back(results.block());
  }
  if constexpr (requires { std::ranges::size(items); }) {
    auto state = run_map<process::PoolMapInto<R>>(options, std::move(f), items, std::move(request), results);
    if (state != nullptr) return AsyncResult<Array<R>>(std::move(state));
  } else {
    task::Items<ItemType<Range>> gathered;
    for (auto&& item : items) gathered.emplace_back(std::forward<decltype(item)>(item));
    process::require_room(gathered.size(), results.size());
    auto state =
        run_map<process::PoolMapInto<R>>(options, std::move(f), gathered, std::move(request), results);
    if (state != nullptr) return AsyncResult<Array<R>>(std::move(state));
  }
  auto nothing = std::make_shared<task::LocalState<Array<R>>>();
  nothing->set_value(results);
  return AsyncResult<Array<R>>(std::move(nothing));
}

template <class F, std::ranges::input_range Range>
auto Pool::map_shared_async(F f, Range&& items, const MapOptions& options) {
  using R = wire::ResultOf<F, ItemType<Range>>;
  static_assert(wire::Plain<R>,
                "map_shared: results of this type cannot lie in an Array as plain bytes; use map()");
  if constexpr (requires { std::ranges::size(items); }) {
    const SharedVector<R> results(Shape(std::ranges::size(items)), {.uninitialized = true});
    return map_into_async(std::move(f), items, results, options);
  } else {
    task::Items<ItemType<Range>> gathered;
    for (auto&& item : items) gathered.emplace_back(std::forward<decltype(item)>(item));
    const SharedVector<R> results(Shape(gathered.size()), {.uninitialized = true});
    return map_into_async(std::move(f), gathered, results, options);
  }
}

}  // namespace manyhands
