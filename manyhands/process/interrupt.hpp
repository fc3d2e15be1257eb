#pragma once
// What Ctrl-C does to a program that waits for its worker processes.

#include <atomic>

namespace manyhands {

enum class OnInterrupt {
  end_program,  // one line on stderr, the workers are stopped, the program ends by SIGINT
  raise,        // the wait, or the next one, throws Interrupted; the pool stays usable
};

namespace process {

// While one lives and the program has no SIGINT handler of its own, Ctrl-C is noted instead of ending the
// program. Cheap to nest and to use in several threads.
class InterruptGuard {
 public:
  InterruptGuard() noexcept;
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // Whether Ctrl-C came since; resets.
  static bool take() noexcept;
};

// mh::init's choice, for the whole program. With `raise`, Ctrl-C is noted from here on also between the
// waits; a second one before any wait has thrown ends the program.
void set_on_interrupt(OnInterrupt choice) noexcept;
OnInterrupt on_interrupt() noexcept;

// Ends this process as an unhandled SIGINT does.
[[noreturn]] void end_by_interrupt() noexcept;

}  // namespace process
}  // namespace manyhands
