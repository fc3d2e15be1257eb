#pragma once
// The verbs that every executor has, and the concept that says so.
//
// An executor derives from Verbs<Itself> and provides three things: size(), start_call() and start_map(). All
// else, blocking forms, starmap, streams, options, is made of these here, once.

#include <concepts>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/task/async_result.hpp"
#include "manyhands/task/items.hpp"
#include "manyhands/task/stream.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands {

namespace task {

// f of a tuple's elements instead of the tuple.
template <class F>
class Starred {
 public:
  using Adapted = F;
  explicit Starred(F f) : f_(std::move(f)) {}
  template <class Tuple>
  decltype(auto) operator()(Tuple&& items) const {
    return std::apply(f_, std::forward<Tuple>(items));
  }
  const F& adapted() const noexcept { return f_; }

 private:
  F f_;
};

// f of one item of a stream, with its number.
template <class F, class T>
class Numbered {
 public:
  using Adapted = F;
  explicit Numbered(F f) : f_(std::move(f)) {}
  wire::ResultOf<F, T> operator()(std::int64_t number, T& item) const {
    const ItemScope scope(number);
    return wire::call_with(f_, item);
  }
  const F& adapted() const noexcept { return f_; }

 private:
  F f_;
};

// f of each of several items, as one task; they are numbered from `first` on.
template <class F, class T>
class Chunked {
 public:
  using Adapted = F;
  explicit Chunked(F f) : f_(std::move(f)) {}
  std::vector<wire::ResultOf<F, T>> operator()(std::int64_t first, std::vector<T>& items) const {
    std::vector<wire::ResultOf<F, T>> results;
    results.reserve(items.size());
    for (auto&& item : items) {
      const ItemScope scope(first++);
      if constexpr (std::is_same_v<T, bool>) {
        bool value = item;  // a vector<bool> has no elements to refer to
        results.push_back(wire::call_with(f_, value));
      } else {
        results.push_back(wire::call_with(f_, item));
      }
    }
    return results;
  }
  const F& adapted() const noexcept { return f_; }

 private:
  F f_;
};

template <class R>
using MapValue = std::conditional_t<std::is_void_v<R>, void, std::vector<Stored<R>>>;

// Waits for a map and reports its progress meanwhile.
template <class T>
void wait_reporting(AsyncResult<T>& result, const ProgressFunction& report) {
  ProgressTicker ticker(report);
  if (!ticker) return;
  while (!result.wait(ticker.until_due())) ticker.tick(result.progress());
  ticker.finish(result.progress());
}

}  // namespace task

template <class Range>
concept InputRange = requires(Range& range) {
  std::ranges::begin(range);
  std::ranges::end(range);
};
// The items of a range as values that functions take: the keys of a std::map without const, borrowed text as
// strings.
template <class T>
struct ItemValue {
  using Type = wire::Travelling<T>;
};
template <class K, class V>
struct ItemValue<std::pair<const K, V>> {
  using Type = std::pair<K, V>;
};
template <class Range>
using ItemType =
    typename ItemValue<std::iter_value_t<decltype(std::ranges::begin(std::declval<Range&>()))>>::Type;

template <class Executor>
class Verbs {
 public:
  // ---- One call.

  // Calls f(args...) on a worker and returns the result. Blocks; throws what AsyncResult::get() throws.
  template <class F, class... Args>
  auto apply(F&& f, Args&&... args) {
    return apply_async(std::forward<F>(f), std::forward<Args>(args)...).get();
  }

  // As apply, without waiting for the result; blocks only while the executor's queue is full.
  template <class F, class... Args>
  auto apply_async(F&& f, Args&&... args) {
    return self().start_call(CallOptions{.seed = seeds_.of_call(nullptr)},
                             std::decay_t<F>(std::forward<F>(f)), std::forward<Args>(args)...);
  }

  // The same verbs with options: pool.with({.deadline = 2s}).apply(f, x).
  class Configured {
   public:
    Configured(Executor& executor, const CallOptions& options) : executor_(executor), options_(options) {}
    template <class F, class... Args>
    auto apply(F&& f, Args&&... args) const {
      return apply_async(std::forward<F>(f), std::forward<Args>(args)...).get();
    }
    template <class F, class... Args>
    auto apply_async(F&& f, Args&&... args) const {
      CallOptions options = options_;
      options.seed = executor_.seeds_.of_call(options_.seed ? &*options_.seed : nullptr);
      return executor_.start_call(options, std::decay_t<F>(std::forward<F>(f)), std::forward<Args>(args)...);
    }

   private:
    Executor& executor_;
    CallOptions options_;
  };
  Configured with(const CallOptions& options) { return Configured(self(), options); }

  // ---- Many calls.

  // f of each item, in order: std::vector<R>, or nothing if f returns void. Blocks. The first exception (of
  // the lowest index among those that occurred) is thrown at once, and items that have not started are
  // dropped.
  template <class F, InputRange Range>
  auto map(F&& f, Range&& items, const MapOptions& options = {}) {
    auto result = map_async(std::forward<F>(f), std::forward<Range>(items), options);
    task::wait_reporting(result, options.progress);
    return std::move(result).get();
  }

  // As map, without waiting: AsyncResult<std::vector<R>>. The items are copied before it returns.
  template <class F, InputRange Range>
  auto map_async(F&& f, Range&& items, const MapOptions& options = {}) {
    return self().start_map(options, std::decay_t<F>(std::forward<F>(f)), std::forward<Range>(items));
  }

  // map for items that are tuples (or pairs, arrays) of arguments: f(std::get<0>(item), std::get<1>(item),
  // ...).
  template <class F, InputRange Range>
  auto starmap(F&& f, Range&& items, const MapOptions& options = {}) {
    return self().map(task::Starred<std::decay_t<F>>(std::forward<F>(f)), std::forward<Range>(items),
                      options);
  }
  template <class F, InputRange Range>
  auto starmap_async(F&& f, Range&& items, const MapOptions& options = {}) {
    return map_async(task::Starred<std::decay_t<F>>(std::forward<F>(f)), std::forward<Range>(items), options);
  }

  // f of each item as a Stream, in the order of the input. Reads the input as results are taken, so it may be
  // endless. An lvalue input is referred to, an rvalue kept.
  template <class F, InputRange Range>
  auto imap(F&& f, Range&& items, const StreamOptions& options = {}) {
    return stream(std::decay_t<F>(std::forward<F>(f)), std::forward<Range>(items), options,
                  task::StreamOrder::input);
  }

  // As imap, each result as soon as it is there.
  template <class F, InputRange Range>
  auto imap_unordered(F&& f, Range&& items, const StreamOptions& options = {}) {
    return stream(std::decay_t<F>(std::forward<F>(f)), std::forward<Range>(items), options,
                  task::StreamOrder::completion);
  }

 private:
  Executor& self() noexcept { return static_cast<Executor&>(*this); }
  // The seed of the next map or stream.
  std::uint64_t map_seed(const std::optional<std::uint64_t>& given) noexcept {
    const std::uint64_t next = seeds_.of_map();
    return given ? *given : next;
  }
  MapOptions with_seed(const MapOptions& options) {
    MapOptions seeded = options;
    seeded.seed = map_seed(options.seed);
    return seeded;
  }

  // The input of a stream: kept if it was an rvalue, referred to otherwise.
  template <class Range>
  struct Input {
    explicit Input(Range&& range) : items(std::forward<Range>(range)), at(std::ranges::begin(items)) {}
    bool ended() const { return at == std::ranges::end(items); }
    Range items;
    decltype(std::ranges::begin(std::declval<std::remove_reference_t<Range>&>())) at;
  };

  template <class F, class Range>
  auto stream(F f, Range&& items, const StreamOptions& options, task::StreamOrder order) {
    using T = ItemType<Range>;
    using R = wire::ResultOf<F, T>;
    using Value = task::Stored<R>;
    const std::size_t window =
        options.window > 0 ? options.window : 4 * static_cast<std::size_t>(self().size());
    const CallOptions call{
        .deadline = options.deadline, .retries = options.retries, .seed = map_seed(options.seed)};
    auto input =
        std::make_unique<Input<Range>>(std::forward<Range>(items));  // fixed place: `at` refers to `items`
    if constexpr (!std::is_void_v<R>) {
      if (options.chunk > 1) {
        auto submit =
            [this, call, chunk = options.chunk, input = std::move(input), number = std::int64_t{0},
             g = task::Chunked<F, T>(std::move(f))]() mutable -> std::optional<AsyncResult<std::vector<R>>> {
          std::vector<T> batch;
          for (; batch.size() < chunk && !input->ended(); ++input->at) batch.emplace_back(*input->at);
          if (batch.empty()) return std::nullopt;
          const std::int64_t first = number;
          number += static_cast<std::int64_t>(batch.size());
          return self().start_call(call, g, first, std::move(batch));
        };
        auto emit = [](std::vector<R> results, std::deque<Value>& out) {
          for (auto&& result : results) out.push_back(std::move(result));
        };
        return make_stream<Value, std::vector<R>>(std::move(submit), emit, window, order, options.progress);
      }
    }
    auto submit = [this, call, input = std::move(input), number = std::int64_t{0},
                   g = task::Numbered<F, T>(std::move(f))]() mutable -> std::optional<AsyncResult<R>> {
      if (input->ended()) return std::nullopt;
      T item(*input->at);
      ++input->at;
      return self().start_call(call, g, number++, std::move(item));
    };
    if constexpr (std::is_void_v<R>) {
      return make_void_stream(std::move(submit), window, order, options.progress);
    } else {
      auto emit = [](R result, std::deque<Value>& out) { out.push_back(std::move(result)); };
      return make_stream<Value, R>(std::move(submit), emit, window, order, options.progress);
    }
  }

  template <class Value, class Result, class Submit, class Emit>
  static Stream<Value> make_stream(Submit submit, Emit emit, std::size_t window, task::StreamOrder order,
                                   const ProgressFunction& progress) {
    return Stream<Value>(std::make_unique<task::WindowSource<Value, Result, Submit, Emit>>(
        std::move(submit), std::move(emit), window, order, progress));
  }
  // A stream of functions that return nothing yields a std::monostate for each call that ended.
  template <class Submit>
  static Stream<std::monostate> make_void_stream(Submit submit, std::size_t window, task::StreamOrder order,
                                                 const ProgressFunction& progress) {
    auto counted = [submit = std::move(submit)]() mutable -> std::optional<AsyncResult<std::monostate>> {
      auto result = submit();
      if (!result) return std::nullopt;
      return result->then([] { return std::monostate{}; });
    };
    auto emit = [](std::monostate value, std::deque<std::monostate>& out) { out.push_back(value); };
    return make_stream<std::monostate, std::monostate>(std::move(counted), emit, window, order, progress);
  }

  friend Executor;
  Verbs() = default;

  task::Seeds seeds_;
};

// What can run tasks: ThreadPool, Pool, and the executors to come. An algorithm that takes an Executor runs
// on all.
template <class E>
concept Executor = requires(E& executor, double (*f)(double), double (*g)(double, double),
                            std::vector<double>& items, std::vector<std::tuple<double, double>>& pairs) {
  { executor.size() } -> std::convertible_to<int>;
  { executor.map(f, items) } -> std::same_as<std::vector<double>>;
  { executor.map_async(f, items) } -> std::same_as<AsyncResult<std::vector<double>>>;
  { executor.imap(f, items) } -> std::same_as<Stream<double>>;
  { executor.imap_unordered(f, items) } -> std::same_as<Stream<double>>;
  { executor.starmap(g, pairs) } -> std::same_as<std::vector<double>>;
  { executor.apply(f, 1.0) } -> std::same_as<double>;
  { executor.apply_async(f, 1.0) } -> std::same_as<AsyncResult<double>>;
};

}  // namespace manyhands
