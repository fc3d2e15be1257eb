#include "manyhands/process/crash.hpp"

#include <signal.h>

#include <array>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/wire/callable.hpp"

namespace manyhands::process {
namespace {

// A signal handler gets no argument of ours; a worker has one slot for its life.
WorkerSlot* handler_slot = nullptr;
alignas(16) std::array<std::byte, 65536> handler_stack;

void on_crash(int signal, siginfo_t* info, void*) {
  auto& stack = handler_slot->crash_stack;
  const auto frames = capture_stack(stack, 2);  // without this function and the kernel's trampoline
  // Where it crashed is an exact address, the others are return addresses, which lie behind their calls.
  if (frames > 0) stack[0] = static_cast<std::byte*>(stack[0]) + 1;
  if (signal == SIGSEGV)
    handler_slot->fault.store(reinterpret_cast<std::uint64_t>(info->si_addr), std::memory_order_relaxed);
  handler_slot->crash_frames.store(static_cast<std::uint32_t>(frames), std::memory_order_release);
  // SA_RESETHAND restored the default action: the signal, pending until we return, now kills the process.
  ::raise(signal);
}

}  // namespace

void install_crash_handler(WorkerSlot& slot) noexcept {
  handler_slot = &slot;
  wire::faults_are_reported();
  warm_up_stack_trace();
  stack_t stack{};
  stack.ss_sp = handler_stack.data();
  stack.ss_size = handler_stack.size();
  ::sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) ::sigaction(signal, &action, nullptr);
}

}  // namespace manyhands::process
