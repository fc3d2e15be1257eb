#include "manyhands/explore/fiber.hpp"

#include <cxxabi.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "manyhands/base/error.hpp"
#include "manyhands/base/stack_space.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define MH_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MH_FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define MH_FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MH_FIBER_TSAN 1
#endif
#endif

#ifdef MH_FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef MH_FIBER_TSAN
#include <sanitizer/tsan_interface.h>
// ThreadSanitizer keeps a call stack for each fiber: what enters on one and leaves on another must not be in
// it.
#define MH_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define MH_NO_TSAN
#endif

namespace manyhands::exploring {

namespace context = boost::context::detail;

Fiber::Fiber() noexcept {
#ifdef MH_FIBER_TSAN
  thread_state_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(std::size_t stack_bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapping_bytes_ = (stack_bytes + page - 1) / page * page + page;
  void* const mapping = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapping == MAP_FAILED) throw_errno(fmt::format("map a fiber's stack of {} bytes", mapping_bytes_));
  mapping_ = static_cast<std::byte*>(mapping);
  ::mprotect(mapping_, page, PROT_NONE);
  stack_bottom_ = mapping_ + page;
  stack_bytes_ = mapping_bytes_ - page;
#ifdef MH_FIBER_TSAN
  thread_state_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
  if (!ended()) {
#ifdef MH_FIBER_ASAN
    __lsan_register_root_region(stack_bottom_, stack_bytes_);  // lost on purpose: no leak to report
#endif
    return;
  }
#ifdef MH_FIBER_ASAN
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);
#endif
#ifdef MH_FIBER_TSAN
  __tsan_destroy_fiber(thread_state_);
#endif
  ::munmap(mapping_, mapping_bytes_);
}

struct Fiber::Entry {
  MH_NO_TSAN static void run(context::transfer_t transfer) {
    auto* const from = static_cast<Fiber*>(transfer.data);
    from->context_ = transfer.fctx;
    Fiber& self = *from->came_from_;  // see leave_for()
    from->came_from_ = nullptr;
    self.came_from_ = from;
    self.arrived();
    Fiber* const next = self.body_(self.argument_);
    self.body_ = nullptr;
    self.leave_for(*next, true);
    std::abort();
  }
};

void Fiber::start(Body body, void* argument) noexcept {
  body_ = body;
  argument_ = argument;
  exceptions_ = {};
#ifdef MH_FIBER_ASAN
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);  // frames that were left without a return
  fake_stack_ = nullptr;
#endif
  auto* const top = static_cast<std::byte*>(const_cast<void*>(stack_bottom_)) + stack_bytes_;
  context_ = context::make_fcontext(top, stack_bytes_, &Entry::run);
}

MH_NO_TSAN void Fiber::switch_to(Fiber& next) noexcept { leave_for(next, false); }

MH_NO_TSAN void Fiber::leave_for(Fiber& next, [[maybe_unused]] bool for_ever) noexcept {
  auto* const exceptions = abi::__cxa_get_globals();
  std::memcpy(static_cast<void*>(&exceptions_), exceptions, sizeof exceptions_);
  std::memcpy(exceptions, &next.exceptions_, sizeof exceptions_);
  const StackBounds mine = manyhands::detail::stack_in_use;
  if (next.mapping_ != nullptr)
    manyhands::detail::stack_in_use = bounds_of_stack(next.stack_bottom_, next.stack_bytes_);
  came_from_ = &next;  // the other side reads and clears it: it knows us, and has to know itself
#ifdef MH_FIBER_ASAN
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake_stack_, next.stack_bottom_, next.stack_bytes_);
#endif
#ifdef MH_FIBER_TSAN
  __tsan_switch_to_fiber(next.thread_state_, 0);
#endif
  const context::transfer_t transfer = context::jump_fcontext(next.context_, this);
  auto* const from = static_cast<Fiber*>(transfer.data);
  from->context_ = transfer.fctx;
  from->came_from_ = nullptr;
  came_from_ = from;
  manyhands::detail::stack_in_use = mine;
  arrived();
}

MH_NO_TSAN void Fiber::arrived() noexcept {
#ifdef MH_FIBER_ASAN
  // The thread's own stack becomes known when it is left for the first time.
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
  came_from_->stack_bottom_ = bottom;
  came_from_->stack_bytes_ = bytes;
#endif
}

}  // namespace manyhands::exploring
