#pragma once
// run_as_child(): the whole life of a forked copy of this program.
//
// A copy has the caller's stack. An exception that left the code that was meant for the copy would unwind
// into the caller's frames, be caught by a handler of the program's main, and the copy would go on with the
// program as if it were the program. So every fork of ours hands its child to this function at once.

#include <exception>
#include <utility>

namespace manyhands {

// The exit status of a child that failed for a reason of its own, not of the user's code.
inline constexpr int child_failed = 71;  // EX_OSERR

namespace detail {
// Writes one line to standard error and ends the process, without handlers of the program (atexit,
// destructors).
[[noreturn]] void end_failed_child(const char* who, const std::exception* error) noexcept;
[[noreturn]] void end_child(int status) noexcept;
}  // namespace detail

// Runs `body` and ends the process: with status 0 when it returns, with child_failed and a line that names
// `who` when an exception leaves it. Never returns, never unwinds. Call it in a fresh child.
template <class Body>
[[noreturn]] void run_as_child(const char* who, Body&& body) noexcept {
  try {
    std::forward<Body>(body)();
  } catch (const std::exception& e) {
    detail::end_failed_child(who, &e);
  } catch (...) {
    detail::end_failed_child(who, nullptr);
  }
  detail::end_child(0);
}

}  // namespace manyhands
