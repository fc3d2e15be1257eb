#include "manyhands/wire/callable.hpp"

#include <fmt/core.h>
#include <pthread.h>

#include <cstdint>

#include "manyhands/base/error.hpp"

namespace manyhands::wire {
namespace {

struct StackRange {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
};

StackRange this_threads_stack() {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return {};
  void* low = nullptr;
  std::size_t size = 0;
  ::pthread_attr_getstack(&attributes, &low, &size);
  ::pthread_attr_destroy(&attributes);
  const auto start = reinterpret_cast<std::uintptr_t>(low);
  return {.low = start, .high = start + size};
}

}  // namespace

void refuse_stack_pointers(const void* closure, std::size_t size_bytes) {
  thread_local const StackRange stack = this_threads_stack();
  const auto* bytes = static_cast<const std::byte*>(closure);
  for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= size_bytes; at += sizeof(std::uintptr_t)) {
    std::uintptr_t word;
    std::memcpy(&word, bytes + at, sizeof word);
    if (word < stack.low || word >= stack.high) continue;
    throw Error(fmt::format(
        "the function captures something by reference or pointer (bytes {}-{} of its state point into "
        "the caller's stack), which a worker process cannot see; capture it by value, use mh::bind(f, "
        "state...), or a pool with Start::fork",
        at, at + sizeof word - 1));
  }
}

void refuse_snapshot() {
  throw Error(
      "mh::snapshot(f) needs workers that are forked at the call: use a pool with .start = Start::fork, or "
      "mh::bind(f, state...) here");
}

}  // namespace manyhands::wire
