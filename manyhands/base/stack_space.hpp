#pragma once
// How much stack is left, for recursions whose depth comes from outside: they stop in time, with an error,
// where the stack's guard page would end the process.

#include <cstddef>
#include <cstdint>

namespace manyhands {

// A stack: [low, high). Below `floor` is what everything else needs: leaf functions, an exception on its way.
// All 0: not known.
struct StackBounds {
  std::uintptr_t low = 0;
  std::uintptr_t floor = 0;
  std::uintptr_t high = 0;
};

StackBounds bounds_of_stack(const void* bottom, std::size_t size_bytes) noexcept;
// Of the stack that this thread was started with, if the system says.
StackBounds bounds_of_thread() noexcept;

namespace detail {
// Whoever switches stacks (explore's fibers) sets it with them.
inline constinit thread_local StackBounds stack_in_use{};
}  // namespace detail

enum class StackRoom : std::uint8_t {
  enough,
  none,
  unknown  // on a stack that we do not know: somebody else's fiber
};
StackRoom look_at_stack(std::size_t size_bytes) noexcept;

// Whether `size_bytes` more, above the reserve, fit on the stack that the caller runs on. A nanosecond.
[[gnu::always_inline]] inline StackRoom stack_room(std::size_t size_bytes) noexcept {
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  const StackBounds& bounds = detail::stack_in_use;
  if (here < bounds.high && here > bounds.floor + size_bytes) [[likely]]
    return StackRoom::enough;
  return look_at_stack(size_bytes);
}

}  // namespace manyhands
