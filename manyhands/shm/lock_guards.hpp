#pragma once
// std::scoped_lock, std::lock_guard and std::unique_lock for Lock and RLock: the standard's own, which in
// addition know the line that they stand on.
//
// The standard's primary templates call lock() from inside <mutex>, which would then be the line that reports
// name. Programs may specialise these templates for their own types. One more difference: a guard that is
// destroyed releases the lock only if its thread still has it. So a guard that was copied by fork() does not
// release the parent's lock, and one whose lock another process released (as the talk does to resolve a
// deadlock) does not take it away from its next holder.
//
// Included by lock.hpp.

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
concept SharedLock = std::derived_from<std::remove_const_t<T>, AnyLock>;

// A lockable that passes a place on, for std::lock.
template <class L>
struct At {
  L& target;
  const std::source_location& where;

  void lock() {
    if constexpr (SharedLock<L>) {
      target.lock(where);
    } else {
      target.lock();
    }
  }
  bool try_lock() {
    if constexpr (SharedLock<L>) {
      return target.try_lock(where);
    } else {
      return target.try_lock();
    }
  }
  void unlock() { target.unlock(); }
};

template <class L>
void release_in_guard(L& target) noexcept {
  if constexpr (SharedLock<L>) {
    target.release_if_held();
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
      : lock_(lock) {
    lock.lock(where);
  }
  lock_guard(L& lock, std::adopt_lock_t) noexcept : lock_(lock) {}
  ~lock_guard() { lock_.release_if_held(); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;

 private:
  L& lock_;
};

template <manyhands::shm::SharedLock L>
class std::scoped_lock<L> {
 public:
  using mutex_type = L;
  explicit scoped_lock(L& lock, const std::source_location& where = std::source_location::current())
      : lock_(lock) {
    lock.lock(where);
  }
  explicit scoped_lock(std::adopt_lock_t, L& lock) noexcept : lock_(lock) {}
  ~scoped_lock() { lock_.release_if_held(); }
  scoped_lock(const scoped_lock&) = delete;
  scoped_lock& operator=(const scoped_lock&) = delete;

 private:
  L& lock_;
};

// Several at once, without deadlock, as std::lock does it.
template <manyhands::shm::SharedLock L, class M, class... Rest>
class std::scoped_lock<L, M, Rest...> {
 public:
  explicit scoped_lock(L& first, M& second, Rest&... rest,
                       const std::source_location& where = std::source_location::current())
      : locks_(first, second, rest...) {
    namespace shm = manyhands::shm;
    std::tuple<shm::At<L>, shm::At<M>, shm::At<Rest>...> places{
        shm::At<L>{first, where}, shm::At<M>{second, where}, shm::At<Rest>{rest, where}...};
    std::apply([](auto&... each) { std::lock(each...); }, places);
  }
  explicit scoped_lock(std::adopt_lock_t, L& first, M& second, Rest&... rest) noexcept
      : locks_(first, second, rest...) {}
  ~scoped_lock() {
    std::apply([](auto&... each) { (manyhands::shm::release_in_guard(each), ...); }, locks_);
  }
  scoped_lock(const scoped_lock&) = delete;
  scoped_lock& operator=(const scoped_lock&) = delete;

 private:
  std::tuple<L&, M&, Rest&...> locks_;
};

template <manyhands::shm::SharedLock L>
class std::unique_lock<L> {
 public:
  using mutex_type = L;
  using Where = std::source_location;

  unique_lock() noexcept = default;
  explicit unique_lock(L& target, const Where& where = Where::current()) : lock_(&target) { lock(where); }
  unique_lock(L& target, std::defer_lock_t) noexcept : lock_(&target) {}
  unique_lock(L& target, std::try_to_lock_t, const Where& where = Where::current())
      : lock_(&target), owns_(target.try_lock(where)) {}
  unique_lock(L& target, std::adopt_lock_t) noexcept : lock_(&target), owns_(true) {}
  template <class Clock, class Length>
  unique_lock(L& target, const std::chrono::time_point<Clock, Length>& deadline,
              const Where& where = Where::current())
      : lock_(&target),
        owns_(target.try_lock_for(manyhands::Duration(manyhands::TimeLimit::until(deadline)), where)) {}
  template <class Rep, class Period>
  unique_lock(L& target, const std::chrono::duration<Rep, Period>& timeout,
              const Where& where = Where::current())
      : lock_(&target), owns_(target.try_lock_for(timeout, where)) {}
  ~unique_lock() {
    if (owns_) lock_->release_if_held();
  }
  unique_lock(unique_lock&& other) noexcept
      : lock_(std::exchange(other.lock_, nullptr)), owns_(std::exchange(other.owns_, false)) {}
  unique_lock& operator=(unique_lock&& other) noexcept {
    unique_lock(std::move(other)).swap(*this);
    return *this;
  }

  void lock(const Where& where = Where::current()) {
    require_free();
    lock_->lock(where);
    owns_ = true;
  }
  bool try_lock(const Where& where = Where::current()) {
    require_free();
    return owns_ = lock_->try_lock(where);
  }
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout,
                    const Where& where = Where::current()) {
    require_free();
    return owns_ = lock_->try_lock_for(timeout, where);
  }
  template <class Clock, class Length>
  bool try_lock_until(const std::chrono::time_point<Clock, Length>& deadline,
                      const Where& where = Where::current()) {
    return try_lock_for(manyhands::Duration(manyhands::TimeLimit::until(deadline)), where);
  }
  void unlock() {
    if (!owns_)
      throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                              "unique_lock::unlock");
    lock_->unlock();
    owns_ = false;
  }

  void swap(unique_lock& other) noexcept {
    std::swap(lock_, other.lock_);
    std::swap(owns_, other.owns_);
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
};
