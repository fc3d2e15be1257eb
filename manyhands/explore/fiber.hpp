#pragma once
// Fiber: a flow of control with a stack of its own, on the thread that made it. mh::explore runs the
// processes of the explored program as fibers, so that it alone decides who goes on.
//
// The switch is Boost.Context's; this adds what it leaves open: stacks that are kept for the next run and end
// in a page that faults, the thread's exceptions under way (a fiber may be switched away inside a catch
// block), and the words that AddressSanitizer and ThreadSanitizer need to follow.
//
// One thread: a fiber runs on the thread that made it.

#include <array>
#include <cstddef>

namespace manyhands::exploring {

class Fiber {
 public:
  // What a fiber runs. Must not throw. Returns the fiber that goes on when this one has ended.
  using Body = Fiber* (*)(void* argument);

  // The calling thread's own flow, which is running.
  Fiber() noexcept;
  // A fiber with a stack of `stack_bytes` (rounded up to pages) that does not run yet. Throws SystemError.
  explicit Fiber(std::size_t stack_bytes);
  // A fiber that did not end is lost with all that its frames own; its stack stays mapped.
  ~Fiber();
  Fiber(const Fiber&) = delete;  // the stack refers to it
  Fiber& operator=(const Fiber&) = delete;

  // From the next switch_to(*this) on, runs body(argument). Requires that the fiber is new or has ended.
  void start(Body body, void* argument) noexcept;
  // Leaves this fiber, which must be the running one, for `next`; returns when somebody switches back.
  void switch_to(Fiber& next) noexcept;

  bool ended() const noexcept { return body_ == nullptr; }

 private:
  struct Entry;  // the first function on a stack
  void leave_for(Fiber& next, bool for_ever) noexcept;
  void arrived() noexcept;

  // libstdc++'s and libc++abi's __cxa_eh_globals: the exceptions being handled, and how many are flying.
  struct Exceptions {
    void* caught = nullptr;
    unsigned int uncaught = 0;
  };

  void* context_ = nullptr;  // where it was left; Boost's fcontext_t
  Body body_ = nullptr;      // null: new or ended
  void* argument_ = nullptr;
  Fiber* came_from_ = nullptr;  // who switched here last
  Exceptions exceptions_;
  std::byte* mapping_ = nullptr;  // guard page and stack; null for the thread's own
  std::size_t mapping_bytes_ = 0;
  // For the sanitizers; unused without them.
  const void* stack_bottom_ = nullptr;
  std::size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  void* thread_state_ = nullptr;
};

}  // namespace manyhands::exploring
