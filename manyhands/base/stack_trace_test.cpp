#include "manyhands/base/stack_trace.hpp"

#include <doctest/doctest.h>

#include <array>
#include <stdexcept>
#include <typeinfo>

namespace manyhands {
namespace {

[[gnu::noinline, maybe_unused]] void thrower_with_a_name() { throw std::runtime_error("x"); }

TEST_CASE("a captured stack names its functions") {
  std::array<void*, max_frames> frames;
  const auto count = capture_stack(frames);
  REQUIRE(count > 2);
  bool found = false;
  for (std::size_t i = 0; i < count; ++i)
    found = found || describe_address(frames[i]).find("main") != std::string::npos;
  CHECK(found);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a throw under a tracer leaves its stack, with file and line") {
  const ThrowTracer tracer;
  CHECK_THROWS(thrower_with_a_name());
  bool found = false;
  for (const void* frame : ThrowTracer::last_throw()) {
    const auto text = describe_address(frame);
    if (text.find("thrower_with_a_name") != std::string::npos) {
      found = true;
      CHECK(text.find("stack_trace_test.cpp:") != std::string::npos);
    }
  }
  CHECK(found);
}
#endif

TEST_CASE("without a throw there is no trace") {
  const ThrowTracer tracer;
  CHECK(ThrowTracer::last_throw().empty());
}

TEST_CASE("names are demangled, and what is no mangled name stays") {
  CHECK(demangle(typeid(std::runtime_error).name()) == "std::runtime_error");
  CHECK(demangle("main") == "main");
}

}  // namespace
}  // namespace manyhands
