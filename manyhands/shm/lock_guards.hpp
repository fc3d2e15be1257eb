#pragma once
// std::scoped_lock, std::lock_guard, std::unique_lock and std::lock for Lock, RLock, a Value's lock and
// Condition: the standard's own, which in addition know the line that they stand on.
//
// The standard's primary templates call lock() from inside <mutex>, which would then be the line that reports
// name. Programs may specialise these templates for their own types. (An overload of std::lock is more than
// the standard foresees; it is chosen for these types only, and without it an explored program would take
// several locks in all the ways in which std::lock tries, of which there are infinitely many.) A guard that
// is destroyed releases the lock only if its thread still has it. So a guard that was copied by fork() does
// not release the parent's lock, and one whose lock another process released (as the talk does to resolve a
// deadlock) does not take it away from its next holder.
//
// Included by lock.hpp.

#include <array>
#include <chrono>
#include <concepts>
#include <mutex>
#include <source_location>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include "manyhands/shm/lock.hpp"  // NOLINT(misc-header-include-cycle)

namespace manyhands::shm {

template <class T>
concept SharedLock = requires(const T& lock, const std::source_location& where) {
  { lock.as_any_lock() } -> std::same_as<const AnyLock&>;
  lock.release_if_held(where);
};

template <class T>
struct IsGuard : std::false_type {};
template <SharedLock L>
struct IsGuard<std::unique_lock<L>> : std::true_type {};
// Of several, as std::lock takes them.
template <class T>
concept SharedLockable = SharedLock<T> || IsGuard<T>::value;

// A lockable that passes a place on, for std::lock.
template <class L>
struct At {
  L& target;
  const std::source_location& where;

  void lock() {
    if constexpr (SharedLockable<L>) {
      target.lock(where);
    } else {
      target.lock();
    }
  }
  bool try_lock() {
    if constexpr (SharedLockable<L>) {
      return target.try_lock(where);
    } else {
      return target.try_lock();
    }
  }
  void unlock() { target.unlock(); }
};

template <class L>
void release_in_guard(L& target, const std::source_location& where) noexcept {
  if constexpr (SharedLock<L>) {
    target.release_if_held(where);
  } else {
    target.unlock();
  }
}

}  // namespace manyhands::shm

template <manyhands::shm::SharedLock L>
class std::lock_guard<L> {
 public:
  using mutex_type = L;
  explicit lock_guard(L& lock, const std::source_location& where = std::source_location::current())
      : lock_(lock), where_(where) {
    lock.lock(where);
  }
  lock_guard(L& lock, std::adopt_lock_t,
             const std::source_location& where = std::source_location::current()) noexcept
      : lock_(lock), where_(where) {}
  ~lock_guard() { lock_.release_if_held(where_); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;

 private:
  L& lock_;
  const std::source_location where_;
};

template <manyhands::shm::SharedLock L>
class std::scoped_lock<L> {
 public:
  using mutex_type = L;
  explicit scoped_lock(L& lock, const std::source_location& where = std::source_location::current())
      : lock_(lock), where_(where) {
    lock.lock(where);
  }
  explicit scoped_lock(std::adopt_lock_t, L& lock,
                       const std::source_location& where = std::source_location::current()) noexcept
      : lock_(lock), where_(where) {}
  ~scoped_lock() { lock_.release_if_held(where_); }
  scoped_lock(const scoped_lock&) = delete;
  scoped_lock& operator=(const scoped_lock&) = delete;

 private:
  L& lock_;
  const std::source_location where_;
};

// Several at once, without deadlock, as std::lock does it.
template <manyhands::shm::SharedLock L, class M, class... Rest>
class std::scoped_lock<L, M, Rest...> {
 public:
  explicit scoped_lock(L& first, M& second, Rest&... rest,
                       const std::source_location& where = std::source_location::current())
      : locks_(first, second, rest...), where_(where) {
    namespace shm = manyhands::shm;
    if constexpr (shm::SharedLock<M> && (shm::SharedLock<Rest> && ...)) {
      if (shm::current_scheduler() != nullptr) [[unlikely]] {
        shm::AnyLock::take_all_scheduled(
            std::array{&first.as_any_lock(), &second.as_any_lock(), &rest.as_any_lock()...},
            shm::intern(where));
        return;
      }
    }
    std::tuple<shm::At<L>, shm::At<M>, shm::At<Rest>...> places{
        shm::At<L>{first, where}, shm::At<M>{second, where}, shm::At<Rest>{rest, where}...};
    std::apply([](auto&... each) { std::lock(each...); }, places);
  }
  explicit scoped_lock(std::adopt_lock_t, L& first, M& second, Rest&... rest,
                       const std::source_location& where = std::source_location::current()) noexcept
      : locks_(first, second, rest...), where_(where) {}
  ~scoped_lock() {
    std::apply([this](auto&... each) { (manyhands::shm::release_in_guard(each, where_), ...); }, locks_);
  }
  scoped_lock(const scoped_lock&) = delete;
  scoped_lock& operator=(const scoped_lock&) = delete;

 private:
  std::tuple<L&, M&, Rest&...> locks_;
  const std::source_location where_;
};

template <manyhands::shm::SharedLock L>
class std::unique_lock<L> {
 public:
  using mutex_type = L;
  using Where = std::source_location;

  unique_lock() noexcept = default;
  explicit unique_lock(L& target, const Where& where = Where::current()) : lock_(&target) { lock(where); }
  unique_lock(L& target, std::defer_lock_t, const Where& where = Where::current()) noexcept
      : lock_(&target), where_(where) {}
  unique_lock(L& target, std::try_to_lock_t, const Where& where = Where::current())
      : lock_(&target), owns_(target.try_lock(where)), where_(where) {}
  unique_lock(L& target, std::adopt_lock_t, const Where& where = Where::current()) noexcept
      : lock_(&target), owns_(true), where_(where) {}
  template <class Clock, class Length>
  unique_lock(L& target, const std::chrono::time_point<Clock, Length>& deadline,
              const Where& where = Where::current())
      : lock_(&target),
        owns_(target.try_lock_for(manyhands::Duration(manyhands::TimeLimit::until(deadline)), where)),
        where_(where) {}
  template <class Rep, class Period>
  unique_lock(L& target, const std::chrono::duration<Rep, Period>& timeout,
              const Where& where = Where::current())
      : lock_(&target), owns_(target.try_lock_for(timeout, where)), where_(where) {}
  ~unique_lock() {
    if (owns_) lock_->release_if_held(where_);
  }
  unique_lock(unique_lock&& other) noexcept
      : lock_(std::exchange(other.lock_, nullptr)),
        owns_(std::exchange(other.owns_, false)),
        where_(other.where_) {}
  unique_lock& operator=(unique_lock&& other) noexcept {
    unique_lock(std::move(other)).swap(*this);
    return *this;
  }

  void lock(const Where& where = Where::current()) {
    require_free();
    lock_->lock(where);
    owned(where);
  }
  bool try_lock(const Where& where = Where::current()) {
    require_free();
    if (lock_->try_lock(where)) owned(where);
    return owns_;
  }
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout,
                    const Where& where = Where::current()) {
    require_free();
    if (lock_->try_lock_for(timeout, where)) owned(where);
    return owns_;
  }
  template <class Clock, class Length>
  bool try_lock_until(const std::chrono::time_point<Clock, Length>& deadline,
                      const Where& where = Where::current()) {
    return try_lock_for(manyhands::Duration(manyhands::TimeLimit::until(deadline)), where);
  }
  void unlock(const Where& where = Where::current()) {
    if (!owns_)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                              "unique_lock::unlock");
    lock_->unlock(where);
    owns_ = false;
  }

  void swap(unique_lock& other) noexcept {
    std::swap(lock_, other.lock_);
    std::swap(owns_, other.owns_);
    std::swap(where_, other.where_);
  }
  // For std::lock: the lock was taken.
  void owned(const Where& where) noexcept {
    owns_ = true;
    where_ = where;
  }
  L* release() noexcept {
    owns_ = false;
    return std::exchange(lock_, nullptr);
  }
  bool owns_lock() const noexcept { return owns_; }
  explicit operator bool() const noexcept { return owns_; }
  L* mutex() const noexcept { return lock_; }

 private:
  void require_free() const {
    if (lock_ == nullptr)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted), "unique_lock::lock");
    if (owns_)
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "unique_lock::lock");
  }

  L* lock_ = nullptr;
  bool owns_ = false;
  Where where_{};  // where it was taken
};

namespace manyhands::shm {

template <class L>
const AnyLock& any_lock_of(const L& lockable) {
  if constexpr (SharedLock<L>) {
    return lockable.as_any_lock();
  } else {
    if (lockable.mutex() == nullptr)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted), "std::lock");
    if (lockable.owns_lock())
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur), "std::lock");
    return lockable.mutex()->as_any_lock();
  }
}

template <class... L>
void lock_all(const std::source_location& where, const void* caller, L&... lockables) {
  if (current_scheduler() != nullptr) [[unlikely]] {
    AnyLock::take_all_scheduled(std::array{&any_lock_of(lockables)...},
                                caller != nullptr ? site_of_caller(caller) : intern(where));
    const auto note = [&where]<class One>(One& lockable) {
      if constexpr (IsGuard<One>::value) lockable.owned(where);
    };
    (note(lockables), ...);
    return;
  }
  std::tuple<At<L>...> places{At<L>{lockables, where}...};
  std::apply([](auto&... each) { std::lock(each...); }, places);  // the standard's
}

}  // namespace manyhands::shm

namespace std {

#if !defined(__clang__)
template <manyhands::shm::SharedLockable A, manyhands::shm::SharedLockable B>
void lock(A& a, B& b, const source_location& where = source_location::current()) {
  manyhands::shm::lock_all(where, nullptr, a, b);
}
template <manyhands::shm::SharedLockable A, manyhands::shm::SharedLockable B,
          manyhands::shm::SharedLockable C>
void lock(A& a, B& b, C& c, const source_location& where = source_location::current()) {
  manyhands::shm::lock_all(where, nullptr, a, b, c);
}
template <manyhands::shm::SharedLockable A, manyhands::shm::SharedLockable B,
          manyhands::shm::SharedLockable C, manyhands::shm::SharedLockable D>
void lock(A& a, B& b, C& c, D& d, const source_location& where = source_location::current()) {
  manyhands::shm::lock_all(where, nullptr, a, b, c, d);
}
template <class A, class B, class C, class D, class E, class... More>
  requires(manyhands::shm::SharedLockable<A> && manyhands::shm::SharedLockable<B> &&
           manyhands::shm::SharedLockable<C> && manyhands::shm::SharedLockable<D> &&
           manyhands::shm::SharedLockable<E> && (manyhands::shm::SharedLockable<More> && ...))
[[gnu::noinline]] void lock(A& a, B& b, C& c, D& d, E& e, More&... more) {  // no place behind a pack
  manyhands::shm::lock_all(source_location::current(), __builtin_return_address(0), a, b, c, d, e, more...);
}
#else  // to which the others are ambiguous with the standard's
template <class A, class B, class... More>
  requires(manyhands::shm::SharedLockable<A> && manyhands::shm::SharedLockable<B> &&
           (manyhands::shm::SharedLockable<More> && ...))
[[gnu::noinline]] void lock(A& a, B& b, More&... more) {
  manyhands::shm::lock_all(source_location::current(), __builtin_return_address(0), a, b, more...);
}
#endif

}  // namespace std
