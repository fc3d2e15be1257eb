#pragma once
// Handover: says that what one thread did comes before what another one does, where no primitive in shared
// memory makes that order: a task that is submitted and run, a result that is computed and looked at.
//
// For the race detector (shm/race.hpp), which cannot be seen from the layers that know of tasks. It only
// says so: that the order is true is the caller's matter. Costs a branch on a word that is null unless the
// detector runs.
//
// Any thread. The place belongs to one process: in a fork it means nothing.

#include <atomic>
#include <cstdint>

namespace manyhands {

// The detector's side; `place` is what it keeps for one Handover, 0: nothing yet.
struct HandoverWatch {
  void (*released)(std::atomic<std::uint64_t>& place) noexcept;
  void (*acquired)(std::uint64_t place) noexcept;
  void (*forget)(std::uint64_t place) noexcept;
};
namespace detail {
// Null: nobody watches. Set once, before main() or by a test, by shm/race.cpp.
inline constinit std::atomic<const HandoverWatch*> handover_watch{nullptr};
}  // namespace detail

class Handover {
 public:
  Handover() = default;
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;
  ~Handover() {
    if (const auto* watch = watched(); watch != nullptr) [[unlikely]]
      watch->forget(place_.load(std::memory_order_acquire));
  }

  // What this thread did so far comes before what follows an acquired() in another one.
  void released() noexcept {
    if (const auto* watch = watched(); watch != nullptr) [[unlikely]]
      watch->released(place_);
  }
  void acquired() const noexcept {
    if (const auto* watch = watched(); watch != nullptr) [[unlikely]]
      watch->acquired(place_.load(std::memory_order_acquire));
  }

 private:
  // acquire: pairs with the store of the pointer
  static const HandoverWatch* watched() noexcept {
    return detail::handover_watch.load(std::memory_order_acquire);
  }

  std::atomic<std::uint64_t> place_{0};  // the detector's
};

}  // namespace manyhands
