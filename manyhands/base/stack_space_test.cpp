#include "manyhands/base/stack_space.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <thread>

namespace manyhands {
namespace {

// Goes down until there is no room; the depth.
[[gnu::noinline]] int descend(int depth) {
  volatile char frame[1000];
  frame[0] = 1;
  if (stack_room(0) != StackRoom::enough || depth > 100'000'000) return depth;
  const int reached = descend(depth + 1);
  return frame[0] == 1 ? reached : 0;
}

TEST_CASE("a recursion stops before the stack ends, on the main thread and on others") {
  CHECK(descend(0) > 100);
  std::jthread other([] { CHECK(descend(0) > 100); });
}

TEST_CASE("a thread with a small stack knows it") {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, 512 * 1024);
  pthread_t thread{};
  int depth = 0;
  const auto body = [](void* out) -> void* {
    *static_cast<int*>(out) = descend(0);
    return nullptr;
  };
  REQUIRE(::pthread_create(&thread, &attributes, body, &depth) == 0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
#if !defined(__SANITIZE_THREAD__)  // which takes most of a small stack
  CHECK(depth > 50);
#endif
  CHECK(depth < 512);
}

TEST_CASE("more than the stack has does not fit") {
  CHECK(stack_room(0) == StackRoom::enough);
  CHECK(stack_room(std::size_t{1} << 40) == StackRoom::none);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
StackRoom on_foreign_stack = StackRoom::enough;

TEST_CASE("a stack that nobody told of is unknown") {
  constexpr std::size_t size = 64 * 1024;
  void* const stack = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(stack != MAP_FAILED);
  ucontext_t here{};
  ucontext_t there{};
  ::getcontext(&there);
  there.uc_stack.ss_sp = stack;
  there.uc_stack.ss_size = size;
  there.uc_link = &here;
  ::makecontext(&there, [] { on_foreign_stack = stack_room(0); }, 0);
  ::swapcontext(&here, &there);
  ::munmap(stack, size);
  CHECK(on_foreign_stack == StackRoom::unknown);
  CHECK(stack_room(0) == StackRoom::enough);
}
#endif

}  // namespace
}  // namespace manyhands
