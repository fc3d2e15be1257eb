// A program that tests kill, interrupt and starve. usage: victim MODE FLAG; it raises FLAG when it is at
// work.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/multicore.hpp"
#include "tests/support.hpp"

namespace mh = manyhands;

namespace {

void work_for_ever(const mh::test::Flag& flag, int) {
  flag.raise();
  for (;;) ::pause();
}

// A worker whose task has a pool of its own.
void nest(const mh::test::Flag& flag, int) {
  mh::Pool inner(2);
  inner.map(mh::bind(work_for_ever, flag), std::vector<int>(2));
}

double* before_init = nullptr;  // shared memory of the program's own

int run(const std::string& mode, const mh::test::Flag& flag) {
  if (mode == "threads-without-init") {
    std::jthread other([](const std::stop_token& stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
    });
    mh::Pool pool(2);
    return 0;
  }
  if (mode == "stdio") {  // started with the descriptors 0, 1 and 2 closed
    for (int i = 0; i < 20; ++i) std::fprintf(stderr, "a warning that would be written over shared memory\n");
    const mh::Value<int> value(1);
    mh::Pool pool(1);
    return value.get() == 1 && pool.apply([] { return 2; }) == 2 ? 0 : 1;
  }
  if (mode == "spawn-inside") {
    mh::Pool pool(1);
    const auto inner = [] {
      mh::Pool spawned(1, {.start = mh::Start::spawn});
      return spawned.apply([] { return 5; });
    };
    mh::Process process{[inner] { std::_Exit(inner()); }};
    process.join();
    mh::Pool spawned(1, {.start = mh::Start::spawn});
    return pool.apply(inner) == 5 && spawned.apply(inner) == 5 && process.exit_code() == 5 ? 0 : 1;
  }
  if (mode == "main-ends") {
    const mh::Lock lock;
    const mh::Array<int> data(1000);
    data[0] = 4711;
    std::thread([lock, data, main = ::pthread_self()]() mutable {
      ::pthread_join(main, nullptr);
      lock.acquire();
      mh::Process process{[](mh::Lock held, mh::Array<int> seen) {
                            if (held.acquire(std::chrono::milliseconds(100))) std::_Exit(1);
                            std::_Exit(seen[0] == 4711 ? 0 : 2);
                          },
                          lock, data};
      process.join();
      ::_exit(process.exit_code().value_or(3));
    }).detach();
    ::pthread_exit(nullptr);
  }
  if (mode == "address-space") {
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    const auto allocate = [](std::size_t bytes) { return std::vector<char>(bytes, 'x').size(); };
    const std::size_t half = limit.rlim_cur / 2;
    mh::Pool pool(2);
    if (allocate(half) != half || pool.apply(allocate, half) != half) return 1;
    mh::Pool another(2);
    if (another.map([](int x) { return x; }, std::vector<int>(100'000, 1)).size() != 100'000) return 2;
    mh::Pool forked(2, {.start = mh::Start::fork});
    return forked.apply([] { return 3; }) == 3 ? 0 : 3;
  }
  if (mode == "print") {
    mh::Pool pool(2);
    pool.map([](int i) { std::printf("item %d\n", i); }, std::vector<int>{1, 2, 3});
    return 0;
  }
  if (mode == "print-unsynced") {
    for (const mh::Start start : {mh::Start::zygote, mh::Start::fork}) {
      mh::Pool pool(2, {.start = start});
      pool.map([](int i) { std::cout << "item " << i << '\n'; }, std::vector<int>{1, 2, 3});
      pool.apply([] { std::cout << "call\n"; });
      std::cout << "between\n";
    }
    mh::Process{[] { std::cout << "process\n"; }}.join();
    mh::Process{{.start = mh::Start::fork}, [] { std::cout << "forked\n"; }}.join();
    std::cout << "after\n";
    return 0;
  }
  if (mode == "map-before-init") {
    mh::Pool pool(1);
    pool.apply([at = before_init, k = 2.5] { *at = k; });
    mh::Process{[at = before_init] { at[1] = 3.5; }}.join();
    std::printf("%g %g\n", before_init[0], before_init[1]);
    return 0;
  }
  if (mode == "named") {  // a name in /dev/shm and processes that hold shared memory
    const auto named =
        mh::NamedArray<int>::create("manyhands-test-victim-" + std::to_string(::getpid()), 1000);
    const mh::Array<int> array(1'000'000);
    mh::Process first{[](mh::Array<int> a, mh::test::Flag at_work) {
                        a[0] = 1;
                        at_work.raise();
                        for (;;) ::pause();
                      },
                      array, flag};
    mh::Process second{[](mh::Array<int> a, mh::test::Flag at_work) {
                         mh::Process inner{[](mh::Array<int> b, mh::test::Flag inner_at_work) {
                                             b[1] = 1;
                                             inner_at_work.raise();
                                             for (;;) ::pause();
                                           },
                                           a, at_work};
                       },
                       array, flag};
    return 0;
  }
  if (mode == "detach") {
    mh::Process p{[](mh::test::Flag at_work) {
                    at_work.raise();
                    while (at_work.count() < 2) std::this_thread::yield();
                  },
                  flag};
    p.detach();
    return 0;
  }
  if (mode == "log") {  // what the log tells of: a worker that dies, a task that runs again, a long wait
    mh::Pool pool(2, {.retries = 1});
    pool.apply(
        [](const mh::test::Flag& died) {
          if (died.count() > 0) return;
          died.raise();
          ::raise(SIGKILL);
        },
        flag);
    const mh::Lock lock{{.name = "till"}};
    const mh::Event taken;
    const mh::Process holder{[](const mh::Lock& l, const mh::Event& have_it) {
                               const std::scoped_lock guard(l);
                               have_it.set();
                               const auto is_long = [](const auto& wait) { return wait.waited_s > 1.2; };
                               for (bool over = false; !over;) {
                                 const auto waits = mh::lock_report().waits;
                                 over = std::any_of(waits.begin(), waits.end(), is_long);
                                 std::this_thread::sleep_for(std::chrono::milliseconds(20));
                               }
                             },
                             lock, taken};
    taken.wait();
    const std::scoped_lock guard(lock);
    return 0;
  }
  mh::Pool pool(2, {.start = mode == "fork"    ? mh::Start::fork
                             : mode == "spawn" ? mh::Start::spawn
                                               : mh::Start::zygote});
  if (mode == "nested") {
    pool.map(mh::bind(nest, flag), std::vector<int>(2));
  } else if (mode == "raise") {
    try {
      pool.map(mh::bind(work_for_ever, flag), std::vector<int>(100));
    } catch (const mh::Interrupted& e) {
      std::fprintf(stderr, "caught: %s\n", e.what());
      pool.terminate();
      return 3;
    }
  } else if (mode == "churn") {  // pools come and go, tasks of all kinds
    flag.raise();
    for (;;) {
      mh::Pool other(2);
      other.map([](double x) { return x * x; }, std::vector<double>(100'000, 2.0));
      const auto result = other.apply_async([] { return std::string(100'000, 'x'); });
    }
  } else {
    pool.map(mh::bind(work_for_ever, flag), std::vector<int>(100));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "print-unsynced") {
    std::ios::sync_with_stdio(false);
    std::cout << "before\n";  // in the buffer when the zygote is forked
  }
  if (mode == "map-before-init") {
    before_init = static_cast<double*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }
  if (mode != "threads-without-init") {
    mh::init(argc, argv,
             {.on_interrupt = mode == "raise" ? mh::OnInterrupt::raise : mh::OnInterrupt::end_program});
  }
  if (argc != 3) return 2;
  try {
    return run(mode, {argv[2]});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "victim: %s\n", e.what());
    return 1;
  }
}
