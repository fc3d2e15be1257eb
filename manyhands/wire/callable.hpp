#pragma once
// How the thing that a task calls travels: not its code, only its state (function.hpp carries the place of
// the code).
//
//   plain function                        -> its Function
//   captureless lambda, empty object      -> nothing
//   wire::Codec<F>, packable aggregate    -> packed like any value
//   other trivially copyable closure      -> its bytes, and what its pointers point to if that is known
//                                            elsewhere (below)
//   bind(f, state...)                     -> f as above, and the state packed
//   snapshot(f)                           -> its address; only for workers forked at the call (Start::fork)
//
// Anything else is a static_assert that says so.
//
// Pointers and references that a closure captures. The compiler tells whether a closure holds neither these
// nor unions: then nothing is looked at. Of any other, each aligned word that is no padding and an address of
// mapped memory is looked at:
//   - in the program or a shared library (static data, constants, code): it travels as its place there, and
//     in the worker points to the same place, which holds what it held when the worker was started;
//   - in memory shared by the program's processes (an Array's elements): to the same memory, unless the
//     worker is no process of this program (MPI); the same for memory mapped shared, and files mapped for
//     reading, before the zygote was forked;
//   - any other memory, the heap or a stack, is the caller's own. If the word is certainly a pointer or
//     reference, this is an Error at the call. If it may also be something that is never looked at (the
//     payload of an empty optional, unset elements of an array), the worker gets an address that faults at
//     the first use, and that fault names the capture.
// So a pointer never leads to other data than it did in the caller, and a closure of values is never refused.
// Not seen: a pointer within bytes that are not aligned to 8, or that is hidden in an integer.

#include <concepts>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "manyhands/wire/codec.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands {
namespace wire {

// As what an argument of type T travels: text that is only borrowed as std::string, everything else decayed.
template <class T>
using Travelling =
    std::conditional_t<std::is_convertible_v<std::decay_t<T>, std::string_view> &&
                           !std::is_same_v<std::decay_t<T>, std::string> && !Packable<std::decay_t<T>>,
                       std::string, std::decay_t<T>>;

}  // namespace wire

// A callable together with arguments that come first: bind(f, a, b)(x) calls f(a, b, x). Unlike std::bind and
// a capturing lambda it can travel with any packable state.
template <class F, class... State>
class Bound {
 public:
  Bound(F f, State... state) : f_(std::move(f)), state_(std::move(state)...) {}

  template <class... Args>
  decltype(auto) operator()(Args&&... args) const {
    return std::apply(
        [&](const State&... state) -> decltype(auto) { return f_(state..., std::forward<Args>(args)...); },
        state_);
  }

  const F& function() const noexcept { return f_; }
  const std::tuple<State...>& state() const noexcept { return state_; }

 private:
  F f_;
  std::tuple<State...> state_;
};

template <class F, class... State>
Bound<std::decay_t<F>, wire::Travelling<State>...> bind(F&& f, State&&... state) {
  return {std::forward<F>(f), std::forward<State>(state)...};
}

// A callable that stays where it is: a worker forked while the caller waits has the same object at the same
// address. Only for pools with Start::fork, where any closure works, whatever it captures; elsewhere an Error
// at the call.
template <class F>
class Snapshot {
 public:
  explicit Snapshot(const F& f) noexcept : f_(&f) {}
  template <class... Args>
  decltype(auto) operator()(Args&&... args) const {
    return (*f_)(std::forward<Args>(args)...);
  }

 private:
  const F* f_;
};

template <class F>
Snapshot<F> snapshot(const F& f) noexcept {
  return Snapshot<F>(f);
}

namespace wire {

template <class F>
inline constexpr bool is_bound = false;
template <class F, class... State>
inline constexpr bool is_bound<Bound<F, State...>> = true;
template <class F>
inline constexpr bool is_snapshot = false;
template <class F>
inline constexpr bool is_snapshot<Snapshot<F>> = true;

// A stateless way of calling another callable (starmap, chunks): travels as what it adapts.
template <class W>
concept Adapter = requires(const W& w) {
  typename W::Adapted;
  { w.adapted() } -> std::same_as<const typename W::Adapted&>;
};

template <class F>
inline constexpr bool is_function_pointer =
    std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>;

// A closure whose members cannot be named, so that all one can do is copy its bytes.
template <class F>
inline constexpr bool is_opaque_closure =
    std::is_class_v<F> && std::is_trivially_copyable_v<F> && !std::is_aggregate_v<F>;

template <class F>
consteval bool callable_travels();

template <class F, class... State>
consteval bool bound_travels(const Bound<F, State...>*) {
  return callable_travels<F>() && (Packable<State> && ...);
}

template <class F>
consteval bool callable_travels() {
  if constexpr (is_function_pointer<F> || is_snapshot<F>) {
    return true;
  } else if constexpr (is_bound<F>) {
    return bound_travels(static_cast<const F*>(nullptr));
  } else if constexpr (Adapter<F>) {
    return callable_travels<typename F::Adapted>();
  } else if constexpr (std::is_empty_v<F> && std::is_default_constructible_v<F>) {
    return true;
  } else {
    return Packable<F> || is_opaque_closure<F>;
  }
}

template <class F>
concept TravellingCallable = callable_travels<std::decay_t<F>>();

// What the receiving process has of this one's memory.
enum class Reach {
  other_process,  // nothing but the program and its libraries
  same_program,   // the memory that the processes of the program share, too
  forked_before,  // and what cannot have changed since it, or its zygote, was forked
  forked_now      // all: it is forked at the call
};

namespace detail {

template <class F>
struct ByteCopy {
  unsigned char bytes[sizeof(F)];
};

// No pointer, reference or union is anywhere in F: such a type cannot be made of bytes in a constant
// expression. False for some that hold none, either.
template <class F>
concept HoldsNoAddress = requires {
  typename std::bool_constant<(static_cast<void>(__builtin_bit_cast(F, ByteCopy<F>{})), true)>;
};

// How sure it is that a word of an F that looks like an address is a pointer or reference.
enum class Surety : std::uint8_t {
  maybe,
  if_on_live_stack,  // it holds a reference, or is laid out strangely
  certain            // a pointer or two, or one and an integer: no room for padding or unset elements
};
template <class F>
inline constexpr Surety surety_of =
    std::has_unique_object_representations_v<F> && sizeof(F) <= 16 ? Surety::certain
    : !std::is_standard_layout_v<F>                                ? Surety::if_on_live_stack
                                                                   : Surety::maybe;

// Packs the closure's bytes, and what its words refer to. Throws Error as said above. Changes the bytes.
void pack_closure(Writer& writer, MutableByteView closure, Surety surety, Reach reach);
// Sets the words to what they refer to here.
void unpack_closure(Reader& reader, MutableByteView closure);

}  // namespace detail

// Throws Error: a Snapshot was given to an executor whose workers do not share the caller's memory.
[[noreturn]] void refuse_snapshot();

// The memory that the processes of the program share, told by who manages it.
struct SharedMemory {
  std::uint64_t (*offset_of)(const void* address);  // 0: not in it
  void* (*address_of)(std::uint64_t offset);
  bool (*is_inherited)(const void* address);  // the same in every fork of the zygote
};
// Once, before the first task. Returns true.
bool register_shared_memory(const SharedMemory& memory) noexcept;

// What to say of a fault at `address` if it is a captured pointer that an unpacked closure could not have;
// empty for any other.
std::string captured_pointer_text(std::uint64_t address);
// This process reports its faults itself: unpacking installs no handler that writes the text above to stderr.
void faults_are_reported() noexcept;

template <class F>
void pack_callable(Writer& writer, const F& f, Reach reach = Reach::other_process) {
  static_assert(
      TravellingCallable<F>,
      "this function object cannot travel to another process: its captures are neither trivially "
      "copyable nor "
      "packable. Use mh::bind(f, state...) with packable state, an aggregate function object, or "
      "mh::snapshot(f) "
      "with Start::fork. Handles to shared memory (mh::Lock, mh::Array ...) are packable, but no captures: "
      "give them as arguments, or to mh::bind");
  if constexpr (is_function_pointer<F>) {
    pack(writer, function_at(reinterpret_cast<const void*>(f)));
  } else if constexpr (is_snapshot<F>) {
    if (reach != Reach::forked_now) refuse_snapshot();
    writer.binary({reinterpret_cast<const std::byte*>(&f), sizeof f});
  } else if constexpr (is_bound<F>) {
    pack_callable(writer, f.function(), reach);
    pack(writer, f.state());
  } else if constexpr (Adapter<F>) {
    pack_callable(writer, f.adapted(), reach);
  } else if constexpr (std::is_empty_v<F> && std::is_default_constructible_v<F>) {
    // nothing: the thunk's type says all
  } else if constexpr (Packable<F>) {
    pack(writer, f);
  } else {
    if constexpr (!detail::HoldsNoAddress<F>) {
      if (reach != Reach::forked_now) {
        alignas(F) std::byte copy[sizeof(F)];
        std::memcpy(copy, &f, sizeof f);
#if __has_builtin(__builtin_clear_padding)
        __builtin_clear_padding(reinterpret_cast<F*>(copy));
#endif
        detail::pack_closure(writer, copy, detail::surety_of<F>, reach);
        return;
      }
    }
    writer.binary({reinterpret_cast<const std::byte*>(&f), sizeof f});
  }
}

template <class F>
F unpack_closure_bytes(Reader& reader) {
  alignas(F) std::byte copy[sizeof(F)];
  detail::unpack_closure(reader, copy);  // starts the lifetime of the trivially copyable closure
  return *std::launder(reinterpret_cast<const F*>(copy));
}

template <class F>
F unpack_callable(Reader& reader);

template <class F, class... State>
Bound<F, State...> unpack_bound(Reader& reader, const Bound<F, State...>*) {
  F f = unpack_callable<F>(reader);
  auto state = unpack<std::tuple<State...>>(reader);
  return std::apply([&](State&... values) { return Bound<F, State...>(std::move(f), std::move(values)...); },
                    state);
}

template <class F>
F unpack_callable(Reader& reader) {
  if constexpr (is_function_pointer<F>) {
    return reinterpret_cast<F>(const_cast<void*>(address_of(unpack<Function>(reader))));
  } else if constexpr (is_bound<F>) {
    return unpack_bound(reader, static_cast<const F*>(nullptr));
  } else if constexpr (Adapter<F>) {
    return F(unpack_callable<typename F::Adapted>(reader));
  } else if constexpr (is_snapshot<F>) {
    return unpack_closure_bytes<F>(reader);
  } else if constexpr (std::is_empty_v<F> && std::is_default_constructible_v<F>) {
    return F{};
  } else if constexpr (Packable<F>) {
    return unpack<F>(reader);
  } else {
    return unpack_closure_bytes<F>(reader);
  }
}

}  // namespace wire
}  // namespace manyhands
