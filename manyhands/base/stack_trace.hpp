#pragma once
// Stack traces: where this thread is, where the last exception was thrown from, and what such addresses are
// called.
//
// Capturing is cheap (a few microseconds) and, after warm_up_stack_trace(), safe in a signal handler; naming
// reads debug information and is for the moment when a person wants to read it.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace manyhands {

inline constexpr std::size_t max_frames = 48;

// Writes the return addresses of the calling thread into `frames`, innermost first, without those of the
// `skip` innermost functions (1: the caller of capture_stack); returns how many.
std::size_t capture_stack(std::span<void*> frames, std::size_t skip = 0) noexcept;

// Makes later calls of capture_stack() async-signal-safe (the first one loads libgcc's unwinder).
void warm_up_stack_trace() noexcept;

// While an object lives, each throw on this thread notes its stack. Nests. One thread.
class ThrowTracer {
 public:
  ThrowTracer() noexcept;
  ~ThrowTracer();
  ThrowTracer(const ThrowTracer&) = delete;
  ThrowTracer& operator=(const ThrowTracer&) = delete;

  // The stack of the last throw on this thread, innermost first, from the function that threw; empty if
  // nothing was thrown, or if the program's libstdc++ is linked statically or runs under a sanitizer (both
  // own the hook).
  static std::vector<const void*> last_throw();
};

// From now on each throw notes what it throws, on every thread. (Not where last_throw() is empty.)
void note_throws() noexcept;
// The exception that passes on this thread, as "std::runtime_error: its what()", or its type alone; empty if
// that is not known. `depth`: how many others passed when it was thrown (std::uncaught_exceptions() then).
// For destructors, which have no other way to it.
std::string passing_exception(int depth);

// "function at file:line" for a return address of this process, as far as debug information and symbols say.
std::string describe_address(const void* address);

// The demangled form of a C++ symbol or type name; `mangled` itself if it is none.
std::string demangle(const char* mangled);

}  // namespace manyhands
