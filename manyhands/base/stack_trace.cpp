#include "manyhands/base/stack_trace.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <typeinfo>
#include <utility>

#define BACKWARD_HAS_DW 1
#include <backward.hpp>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MH_HOOK_THROW 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MH_HOOK_THROW 0
#else
#define MH_HOOK_THROW 1
#endif
#else
#define MH_HOOK_THROW 1
#endif

namespace manyhands {
namespace {

struct ThrowState {
  int tracers = 0;
  std::size_t count = 0;
  std::array<void*, max_frames> frames{};
};
thread_local constinit ThrowState throw_state;

// What was thrown last on this thread while so many other exceptions passed. The text is taken at the throw:
// later nobody knows whether the object is still there.
struct Noted {
  const std::type_info* type = nullptr;
  std::array<char, 512> text{};
};
constexpr int noted_depths = 2;  // deeper ones are not noted
thread_local constinit std::array<Noted, noted_depths> noted{};
constinit std::atomic<bool> notes_throws{false};  // set once

[[maybe_unused]] void note(const void* object, const std::type_info* type) noexcept {
  const int depth = std::uncaught_exceptions();
  if (depth >= noted_depths) return;
  Noted& slot = noted[static_cast<std::size_t>(depth)];
  slot.type = type;
  slot.text[0] = '\0';
  auto* thrown = const_cast<void*>(object);
  // As a handler of std::exception would: the pointer becomes one to that base.
  if (type == nullptr || object == nullptr || type->__is_pointer_p() ||
      !typeid(std::exception).__do_catch(type, &thrown, 1))
    return;
  const char* const what = static_cast<const std::exception*>(thrown)->what();
  if (what != nullptr) std::strncpy(slot.text.data(), what, slot.text.size() - 1);
}

[[maybe_unused]] void note(const std::exception_ptr& error) noexcept {
  static_assert(sizeof error == sizeof(void*), "libstdc++'s is the object's address");
  void* object = nullptr;
  std::memcpy(&object, static_cast<const void*>(&error), sizeof object);
  note(object, error ? error.__cxa_exception_type() : nullptr);
}

}  // namespace

// Not inlined, so that it is one frame to skip.
[[gnu::noinline]] std::size_t capture_stack(std::span<void*> frames, std::size_t skip) noexcept {
  std::array<void*, max_frames + 8> all;
  const auto count =
      static_cast<std::size_t>(std::max(0, ::backtrace(all.data(), static_cast<int>(all.size()))));
  const std::size_t first = std::min(count, skip + 1);
  const std::size_t kept = std::min(count - first, frames.size());
  std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(first), kept, frames.begin());
  return kept;
}

void warm_up_stack_trace() noexcept {
  std::array<void*, 2> frames;
  static_cast<void>(capture_stack(frames));
}

ThrowTracer::ThrowTracer() noexcept {
  ++throw_state.tracers;
  throw_state.count = 0;
}

ThrowTracer::~ThrowTracer() { --throw_state.tracers; }

std::vector<const void*> ThrowTracer::last_throw() {
  const auto* const first = throw_state.frames.data();
  return std::vector<const void*>(first, first + throw_state.count);  // braces would make a list of two
}

void note_throws() noexcept { notes_throws = true; }

std::string passing_exception(int depth) {
  if (depth < 0 || depth >= noted_depths) return {};
  const Noted& slot = noted[static_cast<std::size_t>(depth)];
  if (slot.type == nullptr) return {};
  const std::string type = demangle(slot.type->name());
  return slot.text[0] == '\0' ? type : fmt::format("{}: {}", type, slot.text.data());
}

std::string describe_address(const void* address) {
  backward::TraceResolver resolver;
  // A return address lies behind its call, perhaps already on the next line.
  void* const call = static_cast<std::byte*>(const_cast<void*>(address)) - 1;
  const auto trace = resolver.resolve(backward::ResolvedTrace(backward::Trace(call, 0)));
  std::string name = trace.source.function.empty() ? trace.object_function : trace.source.function;
  if (name.empty())
    name = fmt::format("{} in {}", address, trace.object_filename.empty() ? "?" : trace.object_filename);
  if (trace.source.filename.empty()) return name;
  return fmt::format("{} at {}:{}", name, trace.source.filename, trace.source.line);
}

std::string demangle(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  return name ? name.get() : mangled;
}

}  // namespace manyhands

#if MH_HOOK_THROW
// Every throw of the program comes through here: our weak definition stands before libstdc++'s in the order
// in which the dynamic linker looks. Linked with a static libstdc++, the strong definition there wins, which
// the reference to its neighbour __cxa_init_primary_exception makes sure of, and throws simply go unnoted.
extern "C" {
void* manyhands_cxa_neighbour() noexcept asm("__cxa_init_primary_exception");
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming,readability-redundant-declaration):
// the name is the C++ ABI's
#if defined(__clang__)
using ThrownType = std::type_info;  // as <cxxabi.h> declares it
#else
using ThrownType = void;  // as g++ knows it without a declaration
#endif
__attribute__((noreturn, weak, visibility("default"))) void __cxa_throw(void* object, ThrownType* type,
                                                                        void (*destructor)(void*));

[[gnu::used]] static void* const manyhands_keep_neighbour = reinterpret_cast<void*>(&manyhands_cxa_neighbour);

void __cxa_throw(void* object, ThrownType* type, void (*destructor)(void*)) {
  using Throw = void (*)(void*, ThrownType*, void (*)(void*));
  static const auto next = reinterpret_cast<Throw>(::dlsym(RTLD_NEXT, "__cxa_throw"));
  auto& state = manyhands::throw_state;
  if (state.tracers > 0) state.count = manyhands::capture_stack(state.frames, 1);
  if (manyhands::notes_throws.load(std::memory_order_relaxed))
    manyhands::note(object, static_cast<const std::type_info*>(type));
  next(object, type, destructor);
  __builtin_unreachable();
}

// The two other ways in which an exception begins to pass.
__attribute__((noreturn, weak, visibility("default"))) void __cxa_rethrow();
void __cxa_rethrow() {
  using Rethrow = void (*)();
  static const auto next = reinterpret_cast<Rethrow>(::dlsym(RTLD_NEXT, "__cxa_rethrow"));
  if (manyhands::notes_throws.load(std::memory_order_relaxed)) manyhands::note(std::current_exception());
  next();
  __builtin_unreachable();
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming,readability-redundant-declaration)
}

namespace manyhands {
[[noreturn]] __attribute__((weak, visibility("default"))) void rethrow_noted(std::exception_ptr error) asm(
    "_ZSt17rethrow_exceptionNSt15__exception_ptr13exception_ptrE");

void rethrow_noted(std::exception_ptr error) {
  using Rethrow = void (*)(std::exception_ptr);
  static const auto next = reinterpret_cast<Rethrow>(
      ::dlsym(RTLD_NEXT, "_ZSt17rethrow_exceptionNSt15__exception_ptr13exception_ptrE"));
  if (notes_throws.load(std::memory_order_relaxed)) note(error);
  next(std::move(error));
  __builtin_unreachable();
}
}  // namespace manyhands
#endif
