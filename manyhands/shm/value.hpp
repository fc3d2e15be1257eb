#pragma once
// Value<T>: one T that all processes of a program share.
//
//   mh::Value<double> balance(0.0);
//   // Atomic:
//   mh::Process p{[](mh::Value<double> v) { v.update([](double x) { return x + 10; }); }, balance};
//   // A load and a store, which can lose what another does in between:
//   mh::Process q{[](mh::Value<double> v) { v += 10; }, balance};
//
// Plain access (get, set, conversion, = += ++ ...) is not put in any order: each is a load, a store, or one
// after the other, between which other processes may come. That is the race of the textbook, and
// MANYHANDS_RACE=1 reports it. Each single load and store is whole, whatever the size: nobody sees half of
// one value and half of another.
//
// update(), read(), exchange() and compare_exchange() are atomic: they take the Value's own lock. Several
// steps are made one by holding it, and inside plain access is safe:
//
//   std::scoped_lock guard(balance.lock());
//   if (balance >= 10) balance -= 10;
//
// A process that is killed in update(), set() & co. leaves the old value or the new one, and the next one
// goes on without a word. One that is killed while it holds lock() may leave its steps half done:
// LockAbandoned.
//
// Copies refer to the same value, also in other processes; therefore one Value cannot be assigned to another:
// write v = w.get(). All operations are const, so that lambdas that captured a copy need not be mutable. Any
// process, any thread.
//
// Layout of the block: [ LockState : 64 bytes ], then a T that one store can replace, padded with zeros to a
// whole word, or TwoCopies of a T.

#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "manyhands/base/clock.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/schedule.hpp"
#include "manyhands/shm/two_copies.hpp"

namespace manyhands {

template <class T>
  requires std::is_trivially_copyable_v<T>
class Value;

namespace shm {

// A right operand that knows the line it stands on.
template <class T>
struct Located {
  template <class U>
    requires std::convertible_to<U, T> && (!std::same_as<std::remove_cvref_t<U>, Located>)
  // NOLINTNEXTLINE(google-explicit-constructor): for v += 1
  Located(U&& operand, const std::source_location& place = std::source_location::current())
      : value(static_cast<T>(std::forward<U>(operand))), where(place) {}

  T value;
  std::source_location where;
};

// A Value's own lock, as its users take it. update() takes the RLock below directly. The difference: while a
// user holds it, when_abandoned is `report`, else `adopt`. It changes only while the lock is held.
class ValueLock : public RLock {
 public:
  void lock(const Where& where = Where::current()) const {
    RLock::lock(where);
    begin();
  }
  [[nodiscard]] bool try_lock(const Where& where = Where::current()) const {
    return RLock::try_lock(where) && begin();
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout,
                                  const Where& where = Where::current()) const {
    return RLock::try_lock_for(timeout, where) && begin();
  }
  [[nodiscard]] bool try_lock_until(std::chrono::steady_clock::time_point deadline,
                                    const Where& where = Where::current()) const {
    return RLock::try_lock_until(deadline, where) && begin();
  }
  bool acquire(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) const {
    return RLock::acquire(timeout, where) && begin();
  }
  void unlock(const Where& where = Where::current()) const {
    if (held_by_this_thread()) end();
    RLock::unlock(where);
  }
  void release(const Where& where = Where::current()) const { unlock(where); }
  void release_if_held(const Where& where = Where::current()) const noexcept {
    if (held_by_this_thread()) end();
    RLock::release_if_held(where);
  }

 private:
  template <class T>
    requires std::is_trivially_copyable_v<T>
  friend class ::manyhands::Value;
  explicit ValueLock(BlockPtr block) : RLock(std::move(block)) {}

  // Both look at the outermost hold only. A user's lock inside an update() is part of it.
  bool begin() const noexcept { return mark(WhenAbandoned::report); }
  void end() const noexcept { mark(WhenAbandoned::adopt); }
  bool mark(WhenAbandoned what) const noexcept {
    if (state().depth.load(std::memory_order_relaxed) == 0)
      std::atomic_ref(state().when_abandoned).store(what, std::memory_order_relaxed);
    return true;
  }
};

// A new block for a Value, its lock made; and the check of one that came in a message. Throw Error.
BlockPtr make_value_block(std::size_t size, std::uint64_t type);
void check_value_block(const BlockPtr& block, std::uint64_t type, const char* type_name);

// Tells types of values apart, also between programs that were built alike.
constexpr std::uint64_t type_hash(std::string_view name, std::size_t size, std::size_t alignment) noexcept {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  return (hash ^ (size << 8) ^ alignment) * 0x100'0000'01b3;
}

// What schedulers and the race detector have to do with an access. Only if detail::watch is not 0.
void announce_load(Offset value, Site site);
void announce_store(Offset value, Site site);
// With the Value's lock held, whose point comes before.
void announce_update(Offset value, Site site);
void announce_read(Offset value, Site site);

}  // namespace shm

template <class T>
  requires std::is_trivially_copyable_v<T>
class Value {
  static_assert(!std::is_pointer_v<T>, "a pointer means nothing in another process");

 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::value;
  using value_type = T;
  using Where = std::source_location;

  // Throws ResourceExhausted.
  Value() : Value(T{}) {}
  explicit Value(const T& initial) : Value(shm::make_value_block(content_size, type()), Unchecked{}) {
    store(initial);
  }
  // Throws Error if the block holds a value of another type.
  explicit Value(shm::BlockPtr block)
      : Value((shm::check_value_block(block, type(), typeid(T).name()), block), Unchecked{}) {}
  Value(const Value&) = default;
  Value(Value&& other) noexcept
      : Value(static_cast<const Value&>(other)) {}  // a moved-from handle stays good
  Value& operator=(const Value&) = delete;

  // ---- Plain access. Each compound assignment is a load and then a store.

  T get(const Where& where = Where::current()) const {
    if (watched()) [[unlikely]]
      shm::announce_load(offset(), shm::intern(where));
    return load();
  }
  void set(const T& value, const Where& where = Where::current()) const {
    if (watched()) [[unlikely]]
      shm::announce_store(offset(), shm::intern(where));
    store(value);
  }

  // Not inlined, so that the return address tells the line.
  // NOLINTNEXTLINE(google-explicit-constructor): a Value stands for its value
  [[gnu::noinline]] operator T() const {
    if (watched()) [[unlikely]]
      shm::announce_load(offset(), shm::site_of_caller(__builtin_return_address(0)));
    return load();
  }
  // All return what they wrote. (Not a reference: that would be a second load.)
  T operator=(const shm::Located<T>& right) const {  // NOLINT(misc-unconventional-assign-operator)
    set(right.value, right.where);
    return right.value;
  }
  T operator+=(const shm::Located<T>& right) const
    requires requires(T a) { a + a; }
  {
    return assign(static_cast<T>(get(right.where) + right.value), right.where);
  }
  T operator-=(const shm::Located<T>& right) const
    requires requires(T a) { a - a; }
  {
    return assign(static_cast<T>(get(right.where) - right.value), right.where);
  }
  T operator*=(const shm::Located<T>& right) const
    requires requires(T a) { a* a; }
  {
    return assign(static_cast<T>(get(right.where) * right.value), right.where);
  }
  T operator/=(const shm::Located<T>& right) const
    requires requires(T a) { a / a; }
  {
    return assign(static_cast<T>(get(right.where) / right.value), right.where);
  }
  T operator%=(const shm::Located<T>& right) const
    requires requires(T a) { a % a; }
  {
    return assign(static_cast<T>(get(right.where) % right.value), right.where);
  }
  T operator&=(const shm::Located<T>& right) const
    requires requires(T a) { a & a; }
  {
    return assign(static_cast<T>(get(right.where) & right.value), right.where);
  }
  T operator|=(const shm::Located<T>& right) const
    requires requires(T a) { a | a; }
  {
    return assign(static_cast<T>(get(right.where) | right.value), right.where);
  }
  T operator^=(const shm::Located<T>& right) const
    requires requires(T a) { a ^ a; }
  {
    return assign(static_cast<T>(get(right.where) ^ right.value), right.where);
  }
  [[gnu::noinline]] T operator++() const
    requires requires(T a) { ++a; }
  {
    T value = load_for(__builtin_return_address(0));
    return store_for(__builtin_return_address(0), ++value);
  }
  [[gnu::noinline]] T operator++(int) const
    requires requires(T a) { ++a; }
  {
    const T before = load_for(__builtin_return_address(0));
    T value = before;
    store_for(__builtin_return_address(0), ++value);
    return before;
  }
  [[gnu::noinline]] T operator--() const
    requires requires(T a) { --a; }
  {
    T value = load_for(__builtin_return_address(0));
    return store_for(__builtin_return_address(0), --value);
  }
  [[gnu::noinline]] T operator--(int) const
    requires requires(T a) { --a; }
  {
    const T before = load_for(__builtin_return_address(0));
    T value = before;
    store_for(__builtin_return_address(0), --value);
    return before;
  }

  // ---- Atomic. Block while another process has the lock; throw LockAbandoned if one that had taken it by
  // lock() ended, DeadlockError.

  // Sets f(old value) and returns it. `f` runs with the lock held. If it throws, nothing is changed. Plain
  // stores of others are not lost either; f is then called again with what they stored.
  template <class F>
    requires std::is_invocable_r_v<T, F&, T>
  T update(F&& f, const Where& where = Where::current()) const {
    return hold_and_change(std::forward<F>(f), &shm::announce_update, where);
  }
  // The value, never torn, and never a race with update().
  T read(const Where& where = Where::current()) const {
    return hold_and_change([](const T& value) { return value; }, &shm::announce_read, where);
  }
  // Sets `value`; returns the old one.
  T exchange(const T& value, const Where& where = Where::current()) const {
    T before = value;
    update([&](const T& old) { return before = old, value; }, where);
    return before;
  }
  // Sets `desired` if the value equals `expected` (by ==) and returns true; else returns false, and
  // `expected` is the value.
  bool compare_exchange(T& expected, const T& desired, const Where& where = Where::current()) const
    requires std::equality_comparable<T>
  {
    T found = expected;
    update([&](const T& old) { return (found = old) == expected ? desired : old; }, where);
    if (found == expected) return true;
    expected = found;
    return false;
  }

  // The Value's own lock, for blocks of several steps: std::scoped_lock guard(value.lock()). Recursive; a
  // copy of it that is kept as an RLock is good only as long as it is not held by a process that ends.
  const shm::ValueLock& lock() const noexcept { return lock_; }

  const shm::BlockPtr& block() const noexcept { return lock_.block(); }

 private:
  // Loads and stores at once. (atomic_ref of 16 bytes may take a lock that is in one process only.)
  static constexpr bool is_whole = std::atomic_ref<T>::is_always_lock_free && sizeof(T) <= 8;
  static constexpr std::size_t content_size = is_whole ? 8 : shm::TwoCopies::size_for(sizeof(T));
  static_assert(alignof(T) <= 64);

  struct Unchecked {};
  Value(shm::BlockPtr block, Unchecked)
      : lock_(std::move(block)), data_(lock_.block()->data() + sizeof(shm::LockState)) {}

  static std::uint64_t type() { return shm::type_hash(typeid(T).name(), sizeof(T), alignof(T)); }

  template <class F>
  T hold_and_change(F&& f, void (*announce)(shm::Offset, shm::Site), const Where& where) const {
    const Holding guard(lock_, where);
    if (watched()) [[unlikely]]
      announce(offset(), shm::intern(where));
    if constexpr (is_whole) {
      T old = load();
      for (;;) {
        const T value = static_cast<T>(f(old));
        if (std::atomic_ref<T>(place()).compare_exchange_strong(old, value, std::memory_order_relaxed))
          return value;
      }
    } else {
      for (;;) {
        Bytes bytes;
        const std::uint64_t version = copies().load(bytes.data, sizeof(T));
        const T value = static_cast<T>(f(std::bit_cast<T>(bytes)));
        if (copies().store_if(version, &value, sizeof(T))) return value;
      }
    }
  }

  struct Bytes {
    alignas(T) std::byte data[sizeof(T)];
  };

  // Holds the lock, not as its user.
  class Holding {
   public:
    Holding(const RLock& lock, const Where& where) : lock_(lock), where_(where) { lock_.lock(where); }
    ~Holding() { lock_.release_if_held(where_); }
    Holding(const Holding&) = delete;
    Holding& operator=(const Holding&) = delete;

   private:
    const RLock& lock_;
    const Where where_;
  };

  static bool watched() noexcept { return shm::detail::watch.load(std::memory_order_relaxed) != 0; }
  shm::Offset offset() const noexcept { return lock_.block()->offset(); }
  T& place() const noexcept { return *reinterpret_cast<T*>(data_); }
  shm::TwoCopies& copies() const noexcept { return *reinterpret_cast<shm::TwoCopies*>(data_); }

  T load() const noexcept {
    if constexpr (is_whole) {
      return std::atomic_ref<T>(place()).load(std::memory_order_relaxed);  // plain access has no order
    } else {
      Bytes bytes;
      copies().load(bytes.data, sizeof(T));
      return std::bit_cast<T>(bytes);
    }
  }
  void store(const T& value) const noexcept {
    if constexpr (is_whole) {
      std::atomic_ref<T>(place()).store(value, std::memory_order_relaxed);
    } else {
      copies().store(&value, sizeof(T));
    }
  }
  T assign(const T& value, const Where& where) const {
    set(value, where);
    return value;
  }
  T load_for(const void* caller) const {
    if (watched()) [[unlikely]]
      shm::announce_load(offset(), shm::site_of_caller(caller));
    return load();
  }
  T store_for(const void* caller, const T& value) const {
    if (watched()) [[unlikely]]
      shm::announce_store(offset(), shm::site_of_caller(caller));
    store(value);
    return value;
  }

  shm::ValueLock lock_;
  std::byte* data_;  // in this process; valid while the block is held
};

}  // namespace manyhands
