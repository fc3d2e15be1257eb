#include "manyhands/process/delivery_table.hpp"

#include <unistd.h>

#include "manyhands/shm/race.hpp"

namespace manyhands::process {
namespace {

constexpr std::int64_t look_every_ns = 50'000'000;

std::uint64_t this_pid() noexcept { return static_cast<std::uint64_t>(::getpid()); }

}  // namespace

void DeliveryTable::mend(std::uint64_t head) noexcept {
  if (const auto receiving = receiving_.load(std::memory_order_relaxed); receiving != 0) [[unlikely]] {
    Slot& slot = slots_[receiving - 1];
    if (slot.position.load(std::memory_order_relaxed) >= head)
      set_owner(slot, free_slot);  // it is in its cell
    receiving_.store(0, std::memory_order_relaxed);
  }
  if (const auto acknowledging = acknowledging_.load(std::memory_order_relaxed); acknowledging != 0)
      [[unlikely]] {
    acknowledged_.store(acknowledged_then_.load(std::memory_order_relaxed), std::memory_order_release);
    set_owner(slots_[acknowledging - 1], free_slot);
    acknowledging_.store(0, std::memory_order_relaxed);
  }
}

void DeliveryTable::own(Slot& slot) noexcept {
  const auto me = shm::this_process_start();
  slot.owner_start = me.start;
  slot.owner_thread.store(shm::this_thread_token(), std::memory_order_relaxed);
  set_owner(slot, static_cast<std::uint64_t>(me.pid));
}

void DeliveryTable::set_owner(Slot& slot, std::uint64_t owner) noexcept {
  slot.owner.store(owner, std::memory_order_release);
  std::uint32_t returned = 0;  // counted anew: one that was killed may have left a wrong number
  for (std::uint32_t i = 0; i < used(); ++i) returned += slots_[i].owner.load() == nobody ? 1 : 0;
  returned_.store(returned, std::memory_order_release);
}

std::optional<Receipt> DeliveryTable::begin_receive(const QueueCell& cell, std::uint64_t head) noexcept {
  std::uint32_t index = 0;
  while (index < most && slots_[index].owner.load(std::memory_order_relaxed) != free_slot) ++index;
  if (index == most) return std::nullopt;
  Slot& slot = slots_[index];
  slot.cell = cell;
  slot.position.store(head, std::memory_order_relaxed);
  slot.attempt.store(1, std::memory_order_relaxed);
  if (index >= used()) used_.store(index + 1, std::memory_order_release);
  receiving_.store(index + 1, std::memory_order_release);
  own(slot);
  return Receipt{.slot = index, .attempt = 1, .position = head};
}

std::optional<std::uint32_t> DeliveryTable::first_returned() const noexcept {
  std::optional<std::uint32_t> first;
  if (returned() == 0) return first;
  for (std::uint32_t i = 0; i < used(); ++i) {
    if (slots_[i].owner.load(std::memory_order_acquire) != nobody) continue;
    if (!first || slots_[i].position.load(std::memory_order_relaxed) <
                      slots_[*first].position.load(std::memory_order_relaxed))
      first = i;
  }
  return first;
}

Receipt DeliveryTable::receive_again(std::uint32_t index) noexcept {
  Slot& slot = slots_[index];
  const auto attempt = slot.attempt.fetch_add(1, std::memory_order_relaxed) + 1;
  own(slot);
  return {.slot = index, .attempt = attempt, .position = slot.position.load(std::memory_order_relaxed)};
}

void DeliveryTable::remove(std::uint32_t slot) noexcept { set_owner(slots_[slot], free_slot); }

bool DeliveryTable::holds(const Receipt& receipt) const noexcept {
  const Slot& slot = slots_[receipt.slot];
  return slot.owner.load(std::memory_order_acquire) == this_pid() &&
         slot.position.load(std::memory_order_relaxed) == receipt.position;
}

void DeliveryTable::acknowledge(const Receipt& receipt) noexcept {
  const auto then = acknowledged_.load(std::memory_order_relaxed) + 1;
  acknowledged_then_.store(then, std::memory_order_relaxed);
  acknowledging_.store(receipt.slot + 1, std::memory_order_release);  // from here on it is acknowledged
  acknowledged_.store(then, std::memory_order_release);
  set_owner(slots_[receipt.slot], free_slot);
  acknowledging_.store(0, std::memory_order_release);
}

void DeliveryTable::give_back(const Receipt& receipt) noexcept { set_owner(slots_[receipt.slot], nobody); }

bool DeliveryTable::reclaim() noexcept {
  for (std::uint32_t i = 0; i < used(); ++i) {
    Slot& slot = slots_[i];
    const auto owner = slot.owner.load(std::memory_order_acquire);
    if (owner == free_slot || owner == nobody || owner == this_pid()) continue;
    if (shm::process_lives({.pid = static_cast<std::int64_t>(owner), .start = slot.owner_start})) continue;
    if (shm::watching_races()) [[unlikely]]
      shm::race::joined(slot.owner_thread.load(std::memory_order_relaxed));
    set_owner(slot, nobody);
  }
  return returned() > 0;
}

DeliveryTable::Held DeliveryTable::held() const noexcept {
  Held held = Held::by_none;
  for (std::uint32_t i = 0; i < used(); ++i) {
    const auto owner = slots_[i].owner.load(std::memory_order_acquire);
    if (owner == free_slot || owner == nobody) continue;
    if (owner == this_pid()) return Held::by_this_process;
    held = Held::by_others;
  }
  return held;
}

bool DeliveryTable::is_time_to_look() noexcept {
  const auto now = now_ns();
  auto looked = looked_ns_.load(std::memory_order_relaxed);
  return now - looked >= look_every_ns && looked_ns_.compare_exchange_strong(looked, now);
}

}  // namespace manyhands::process
