#pragma once
// Time as manyhands keeps it: CLOCK_MONOTONIC, which all processes of a machine share and no clock change
// moves.

#include <time.h>

#include <chrono>
#include <compare>
#include <cstdint>

namespace manyhands {

using Duration = std::chrono::nanoseconds;

// Nanoseconds of CLOCK_MONOTONIC; comparable between the processes of one machine.
inline std::int64_t now_ns() noexcept {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// How long a call may take, or how far away a moment is: any std::chrono duration, rounded up. What
// nanoseconds cannot express (more than 292 years) is no limit; a negative one is zero. Value.
class TimeLimit {
 public:
  template <class Rep, class Period>
  constexpr TimeLimit(const std::chrono::duration<Rep, Period>& length) noexcept
      : length_(within_range(length)) {}
  // From now to `moment`.
  template <class Clock, class Length>
  static TimeLimit until(const std::chrono::time_point<Clock, Length>& moment) noexcept {
    const auto now = Clock::now();
    return moment <= now ? TimeLimit(Duration(0)) : TimeLimit(moment - now);
  }

  constexpr operator Duration() const noexcept { return length_; }
  constexpr std::int64_t count() const noexcept { return length_.count(); }
  friend constexpr auto operator<=>(TimeLimit, TimeLimit) noexcept = default;

 private:
  template <class Rep, class Period>
  static constexpr Duration within_range(const std::chrono::duration<Rep, Period>& length) noexcept {
    using Wide = std::chrono::duration<double, std::nano>;
    if (Wide(length) >= Wide(Duration::max())) return Duration::max();
    if (!(Wide(length) > Wide(0))) return Duration(0);
    return std::chrono::ceil<Duration>(length);
  }

  Duration length_;
};

// A point in time until which a wait may last; `never` means without bound.
class Deadline {
 public:
  static constexpr Duration never = Duration::max();

  Deadline() noexcept = default;  // never
  explicit Deadline(Duration from_now) noexcept {
    const std::int64_t now = now_ns();
    if (from_now.count() < INT64_MAX - now) at_ns_ = now + from_now.count();
  }

  bool passed() const noexcept { return at_ns_ != INT64_MAX && now_ns() >= at_ns_; }
  bool bounded() const noexcept { return at_ns_ != INT64_MAX; }
  // Time left, never negative; Duration::max() if unbounded.
  Duration left() const noexcept {
    if (at_ns_ == INT64_MAX) return never;
    const std::int64_t left = at_ns_ - now_ns();
    return Duration(left > 0 ? left : 0);
  }

 private:
  std::int64_t at_ns_ = INT64_MAX;
};

}  // namespace manyhands
