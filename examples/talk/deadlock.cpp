// Deadlocks: a process that ends with a lock in its hands, and two that take two locks in opposite order.
#include <chrono>
#include <cstdio>
#include <manyhands/multicore.hpp>
#include <mutex>

namespace mh = manyhands;
using namespace std::chrono_literals;

void compute(mh::Value<double> arg, mh::Lock lock) {
  lock.acquire();  // and never released
  arg += 10;
}

void compute_or_say_why_not(mh::Value<double> arg, mh::Lock lock) {
  try {
    compute(arg, lock);
  } catch (const mh::LockAbandoned& e) {
    std::printf("LockAbandoned: %s\n", e.what());
  }
}

// Takes `first`, lets the other one take its own, and then wants `second`.
void transfer(mh::Lock first, mh::Lock second, mh::Barrier both_have_one) {
  try {
    const std::scoped_lock one(first);
    both_have_one.wait();
    const std::scoped_lock other(second);
    std::printf("%s has both locks\n", mh::this_process::name().c_str());
  } catch (const mh::DeadlockError& e) {
    std::printf("DeadlockError: %s\n", e.what());
  }
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // several processes print

  {
    std::puts("p1 takes the lock and ends; p2 waits:");
    mh::Value<double> arg(0.0);
    mh::Lock lock{{.name = "lock", .when_abandoned = mh::WhenAbandoned::wait}};
    mh::Process p1{{.name = "p1"}, compute, arg, lock};
    p1.join();
    mh::Process p2{{.name = "p2"}, compute, arg, lock};
    const bool ended = p2.join(300ms);
    std::printf("p2 alive: %s, value %g\n", ended ? "no" : "yes", arg.get());
    lock.release();  // resolves the deadlock, without killing processes
    p2.join();
    std::printf("p2 alive: %s, value %g\n", p2.is_alive() ? "yes" : "no", arg.get());
  }
  {
    std::puts("\nthe same with a lock that reports:");
    mh::Value<double> arg(0.0);
    mh::Lock lock{{.name = "lock"}};
    mh::Process p1{{.name = "p1"}, compute, arg, lock};
    p1.join();
    mh::Process p2{{.name = "p2"}, compute_or_say_why_not, arg, lock};
  }
  {
    std::puts("\ntwo processes, two locks in opposite order:");
    mh::Lock a{{.name = "A"}};
    mh::Lock b{{.name = "B"}};
    mh::Barrier barrier(2);
    mh::Process p1{{.name = "p1"}, transfer, a, b, barrier};
    mh::Process p2{{.name = "p2"}, transfer, b, a, barrier};
  }
}
