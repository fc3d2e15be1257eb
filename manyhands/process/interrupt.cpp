#include "manyhands/process/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include "manyhands/base/mutex.hpp"

namespace manyhands::process {
namespace {

// A signal's disposition belongs to the process, and so does this.
std::atomic<bool> interrupted{false};
std::atomic<OnInterrupt> choice_{OnInterrupt::end_program};

struct Guards {
  Mutex mutex;
  int count MH_GUARDED_BY(mutex) = 0;
  bool installed MH_GUARDED_BY(mutex) = false;
};
Guards& guards() {
  static Guards instance;
  return instance;
}

void note(int) { interrupted.store(true); }

}  // namespace

InterruptGuard::InterruptGuard() noexcept {
  const MutexLock lock(guards().mutex);
  if (guards().count++ > 0) return;
  struct sigaction now{};
  ::sigaction(SIGINT, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL)
    return;  // the program's, or ignored in a worker
  struct sigaction ours{};
  ours.sa_handler = note;  // no SA_RESTART: it shall end the wait
  ::sigaction(SIGINT, &ours, nullptr);
  guards().installed = true;
}

InterruptGuard::~InterruptGuard() {
  const MutexLock lock(guards().mutex);
  if (--guards().count > 0 || !guards().installed) return;
  ::signal(SIGINT, SIG_DFL);
  guards().installed = false;
  if (interrupted.exchange(false)) ::raise(SIGINT);  // came after the last look: not lost
}

bool InterruptGuard::take() noexcept {
  return interrupted.load(std::memory_order_relaxed) && interrupted.exchange(false);
}

void set_on_interrupt(OnInterrupt choice) noexcept { choice_.store(choice); }
OnInterrupt on_interrupt() noexcept { return choice_.load(); }

void end_by_interrupt() noexcept {
  ::signal(SIGINT, SIG_DFL);
  sigset_t interrupt;
  ::sigemptyset(&interrupt);
  ::sigaddset(&interrupt, SIGINT);
  ::raise(SIGINT);
  ::pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  ::_exit(130);
}

}  // namespace manyhands::process
