#include "manyhands/base/stack_space.hpp"

#include <pthread.h>

#include <algorithm>

namespace manyhands {
namespace {

constexpr std::size_t reserve_bytes = std::size_t{128} << 10;

}  // namespace

StackBounds bounds_of_stack(const void* bottom, std::size_t size_bytes) noexcept {
  const auto low = reinterpret_cast<std::uintptr_t>(bottom);
  return {.low = low, .floor = low + std::min(reserve_bytes, size_bytes / 2), .high = low + size_bytes};
}

StackBounds bounds_of_thread() noexcept {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return {};
  void* bottom = nullptr;
  std::size_t size = 0;
  ::pthread_attr_getstack(&attributes, &bottom, &size);
  ::pthread_attr_destroy(&attributes);
  return bounds_of_stack(bottom, size);
}

StackRoom look_at_stack(std::size_t size_bytes) noexcept {
  StackBounds& bounds = detail::stack_in_use;
  if (bounds.high == 0) bounds = bounds_of_thread();
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (here < bounds.high && here > bounds.floor + size_bytes) return StackRoom::enough;
  return here < bounds.high && here >= bounds.low ? StackRoom::none : StackRoom::unknown;
}

}  // namespace manyhands
