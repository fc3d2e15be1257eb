#include "manyhands/process/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include "manyhands/base/mutex.hpp"

namespace manyhands::process {
namespace {

// A signal's disposition belongs to the process, and so does this.
std::atomic<bool> interrupted{false};
std::atomic<OnInterrupt> chosen{OnInterrupt::end_program};

struct Guards {
  Mutex mutex;
  int count MH_GUARDED_BY(mutex) = 0;
  bool installed MH_GUARDED_BY(mutex) = false;
};
Guards& guards() {
  static Guards instance;
  return instance;
}

// With OnInterrupt::raise the handler stays, so that nothing is lost between two waits; then a second Ctrl-C,
// while nobody has taken the first, ends the program: one that no longer waits must not become immortal.
void note(int) {
  if (!interrupted.exchange(true) || chosen.load() != OnInterrupt::raise) return;
  ::signal(SIGINT, SIG_DFL);
  ::raise(SIGINT);  // delivered when this handler returns
}

// Notes SIGINT from now on; false if the program handles or ignores it itself, or we note it already.
bool install() noexcept {
  struct sigaction now{};
  ::sigaction(SIGINT, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return false;
  struct sigaction ours{};
  ours.sa_handler = note;  // no SA_RESTART: it shall end the wait
  ::sigaction(SIGINT, &ours, nullptr);
  return true;
}

}  // namespace

InterruptGuard::InterruptGuard() noexcept {
  const MutexLock lock(guards().mutex);
  if (guards().count++ == 0) guards().installed = install();
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

void set_on_interrupt(OnInterrupt choice) noexcept {
  chosen.store(choice);
  if (choice == OnInterrupt::raise) {
    install();
    return;
  }
  struct sigaction now{};
  ::sigaction(SIGINT, nullptr, &now);
  const MutexLock lock(guards().mutex);
  if ((now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == note && guards().count == 0)
    ::signal(SIGINT, SIG_DFL);
}

OnInterrupt on_interrupt() noexcept { return chosen.load(); }

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
