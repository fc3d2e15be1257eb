// A worker that dies under its task: how long until the caller knows.

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <manyhands/multicore.hpp>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

// Seconds from the last instruction of the task before its death to the exception; checks that the pool goes
// on.
double seconds_to_error(mh::Pool& pool, std::int64_t* died_at, int signal) {
  const auto die = [died_at, signal] {
    *died_at = mh::now_ns();
    if (signal == SIGKILL) ::kill(::getpid(), SIGKILL);
    volatile int* volatile null = nullptr;  // volatile both ways: else the compiler may leave the crash out
    *null = 1;
  };
  double seconds = 0;
  try {
    pool.apply(die);
    require(false, "a task that killed its worker returned");
  } catch (const mh::WorkerDied& error) {
    seconds = static_cast<double>(mh::now_ns() - *died_at) * 1e-9;
    require(error.signal() == signal, "the signal");
  }
  require(pool.apply([](int x) { return x + 1; }, 1) == 2, "the pool after a death");
  return seconds;
}

}  // namespace

void death(const Program& program) {
  // Mapped before mh::init, so that the workers have it at the same address.
  void* page =
      ::mmap(nullptr, sizeof(std::int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(page != MAP_FAILED, "mmap");
  auto* const died_at = static_cast<std::int64_t*>(page);

  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  Samples killed, crashed;
  for (int i = 0; i < program.repeats; ++i) {
    killed.push_back(seconds_to_error(pool, died_at, SIGKILL));
    crashed.push_back(seconds_to_error(pool, died_at, SIGSEGV));
  }
  report("SIGKILL: ours", killed);
  report("SIGSEGV: ours", crashed);
}

}  // namespace bench
