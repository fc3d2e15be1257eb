// A program that tests kill, interrupt and starve. usage: victim MODE FLAG; it raises FLAG when it is at
// work.
#include <sys/resource.h>

#include <cstdio>
#include <string>
#include <thread>

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

int run(const std::string& mode, const mh::test::Flag& flag) {
  if (mode == "threads-without-init") {
    std::jthread other([](const std::stop_token& stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
    });
    mh::Pool pool(2);
    return 0;
  }
  if (mode == "print") {
    mh::Pool pool(2);
    pool.map([](int i) { std::printf("item %d\n", i); }, std::vector<int>{1, 2, 3});
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
