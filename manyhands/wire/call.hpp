#pragma once
// Calls that travel: the thunks that tasks name, and the messages they read.
//
// pool.apply(f, args...) instantiates run_call<F, Args...>; the task carries that thunk's Function and a
// message of f's state and the arguments. pool.map(f, xs) instantiates make_range_runner<F, T, R>; its
// message is f's state, the items come beside it. Who sends and who runs share the thunk's type, hence the
// message needs no description of itself.

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "manyhands/wire/callable.hpp"
#include "manyhands/wire/codec.hpp"

namespace manyhands::wire {

// f is called with its arguments as rvalues, or as lvalues if it wants to change them.
template <class F, class... Args>
inline constexpr bool takes_values = std::is_invocable_v<const F&, Args&&...>;
template <class F, class... Args>
inline constexpr bool can_call = takes_values<F, Args...> || std::is_invocable_v<const F&, Args&...>;

template <class F, class... Args>
decltype(auto) call_with(const F& f, Args&... args) {
  if constexpr (takes_values<F, Args...>) {
    return f(std::move(args)...);
  } else {
    return f(args...);
  }
}

// What f returns, as a value: the R of AsyncResult<R>. References are copied.
template <class F, class... Args>
using ResultOf = std::decay_t<decltype(call_with(std::declval<const F&>(), std::declval<Args&>()...))>;

template <class R>
concept TravellingResult = std::is_void_v<R> || Packable<R>;

// Where a thunk puts its value. The value may be borrowed by `writer` and is dropped after the call.
class Reply {
 public:
  virtual void value(const Writer& writer) = 0;
  virtual Writer& writer() = 0;  // an empty Writer to pack the value with
  virtual void unpacked() {}     // the call's message was read and is not needed any more

 protected:
  ~Reply() = default;
};

using CallThunk = void (*)(Reader& call, Reply& reply);

template <class R>
void reply_with(Reply& reply, const R& value) {
  Writer& writer = reply.writer();
  pack(writer, value);
  reply.value(writer);
}

template <class F, class... Args>
void pack_call(Writer& writer, const F& f, Reach reach, const Args&... args) {
  pack_callable(writer, f, reach);
  (pack(writer, args), ...);
}

template <class F, class... Args>
void run_call(Reader& call, Reply& reply) {
  const F f = unpack_callable<F>(call);
  std::tuple<Args...> args{unpack<Args>(call)...};  // braces: in order
  reply.unpacked();
  using R = ResultOf<F, Args...>;
  const auto run = [&](Args&... values) -> decltype(auto) { return call_with(f, values...); };
  if constexpr (std::is_void_v<R>) {
    std::apply(run, args);
    reply.value(reply.writer());
  } else {
    const R result = std::apply(run, args);
    reply_with(reply, result);
  }
}

// One worker's view of the items [begin, end) of a map while it computes them.
class RangeIo {
 public:
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const std::byte* input = nullptr;                  // plain items: the array of all items of the map
  std::byte* output = nullptr;                       // plain results: the array of all results
  std::atomic<std::uint64_t>* current = nullptr;     // the item being computed; read if this worker dies
  const std::atomic<std::uint32_t>* stop = nullptr;  // not zero: start no further item
  bool watched = false;                              // call starting() and computed() for each item

  virtual void starting() = 0;                                         // item *current starts now
  virtual void computed() = 0;                                         // what it throws is the item's error
  virtual Reader item(std::uint64_t index) = 0;                        // packed items
  virtual Writer& writer() = 0;                                        // to pack a result with
  virtual void result(std::uint64_t index, const Writer& writer) = 0;  // packed results

 protected:
  ~RangeIo() = default;
};

// f, unpacked once, to be run over ranges of the same map. An exception of f leaves *current at its item.
class RangeRunner {
 public:
  virtual ~RangeRunner() = default;
  virtual void run(RangeIo& io) const = 0;
};

using RangeThunk = std::unique_ptr<RangeRunner> (*)(Reader& state);

// Items and results that travel as raw bytes in arrays.
template <class T>
inline constexpr bool travels_plain = Plain<T>;

template <class F, class T>
class TypedRangeRunner final : public RangeRunner {
 public:
  explicit TypedRangeRunner(F f) : f_(std::move(f)) {}

  void run(RangeIo& io) const override {
    using R = ResultOf<F, T>;
    // In locals: the compiler cannot know that f and the stores below leave `io` alone.
    const std::uint64_t end = io.end;
    const std::byte* const input = io.input;
    std::byte* const output = io.output;
    std::atomic<std::uint64_t>& current = *io.current;
    const std::atomic<std::uint32_t>& stop = *io.stop;
    const bool watched = io.watched;
    for (std::uint64_t i = io.begin; i < end; ++i) {
      if (stop.load(std::memory_order_relaxed) != 0)
        return;                                     // a hint; who needs certainty looks at the results
      current.store(i, std::memory_order_relaxed);  // read only after this process is dead
      if (watched) io.starting();
      if constexpr (std::is_void_v<R>) {
        compute(io, input, i);
        if (watched) io.computed();
      } else if constexpr (travels_plain<R>) {
        const R result = compute(io, input, i);
        if (watched) io.computed();
        std::memcpy(output + i * sizeof(R), &result, sizeof(R));
      } else {
        const R result = compute(io, input, i);
        if (watched) io.computed();
        Writer& writer = io.writer();
        pack(writer, result);
        io.result(i, writer);
      }
    }
    current.store(io.end, std::memory_order_relaxed);
  }

 private:
  decltype(auto) compute(RangeIo& io, const std::byte* input, std::uint64_t i) const {
    if constexpr (travels_plain<T>) {
      T item;
      std::memcpy(static_cast<void*>(&item), input + i * sizeof(T), sizeof(T));
      return decay_result(item);
    } else {
      Reader reader = io.item(i);
      T item = unpack<T>(reader);
      return decay_result(item);
    }
  }
  ResultOf<F, T> decay_result(T& item) const { return call_with(f_, item); }

  F f_;
};

template <class F, class T>
std::unique_ptr<RangeRunner> make_range_runner(Reader& state) {
  return std::make_unique<TypedRangeRunner<F, T>>(unpack_callable<F>(state));
}

// The Function of a thunk, found once per instantiation.
template <class F, class... Args>
const Function& call_thunk() {
  static const Function function = function_at(reinterpret_cast<const void*>(&run_call<F, Args...>));
  return function;
}
template <class F, class T>
const Function& range_thunk() {
  static const Function function = function_at(reinterpret_cast<const void*>(&make_range_runner<F, T>));
  return function;
}

}  // namespace manyhands::wire
