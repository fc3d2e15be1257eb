#include "manyhands/shm/race.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using test::Child;
using test::Words;

// What is reported when p1 and p2 run at once, and when they run one after the other, either way. The
// detector must not care. `prepare` makes what the two share.
std::vector<std::string> reports_of(const std::function<void()>& first, const std::function<void()>& second) {
  std::vector<std::string> found;
  for (int order = 0; order < 3; ++order) {
    found.push_back(test::stderr_of([&] {
      // In a process of its own, so that each run is new to the detector: pairs are reported once per
      // program.
      const Words words;
      const auto run = [&](const std::function<void()>& body, const char* name, bool later) {
        return Child(
            [&, later] {
              if (order != 0 && later)
                while (words[0] == 0) std::this_thread::yield();
              body();
              words[0] = 1;
            },
            name);
      };
      Child p1 = run(first, "p1", order == 2);
      Child p2 = run(second, "p2", order == 1);
      p1.wait();
      p2.wait();
    }));
  }
  return found;
}

void check_silent(const std::function<void()>& first, const std::function<void()>& second) {
  for (const std::string& text : reports_of(first, second)) CHECK(text == "");
}

std::size_t lines_in(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST_CASE("a write and a read that nothing orders are reported with both lines, whoever comes first") {
  test::watch_races();
  for (int order = 0; order < 4; ++order) {
    const Value<double> v(0.0);
    const Words words;
    std::uint32_t write_line = 0;
    std::uint32_t read_line = 0;
    // One line of the source each time: a pair is reported once per program.
    const auto write = [&] {
      switch (order) {
          // clang-format off
        case 0: write_line = __LINE__; v.set(1); break;
        case 1: write_line = __LINE__; v = 1; break;
        case 2: write_line = __LINE__; v.exchange(1); break;
        default: write_line = __LINE__; v.update([](double x) { return x + 1; }); break;
          // clang-format on
      }
    };
    const auto read = [&] {
      switch (order) {
          // clang-format off
        case 0: read_line = __LINE__; static_cast<void>(v.get()); break;
        case 1: read_line = __LINE__; static_cast<void>(v == 1); break;
        case 2: read_line = __LINE__; static_cast<void>(v.get()); break;
        default: read_line = __LINE__; static_cast<void>(v.get()); break;
          // clang-format on
      }
    };
    const std::string text = test::stderr_of([&] {
      Child p1(
          [&] {
            while (order % 2 == 1 && words[0] == 0) std::this_thread::yield();
            write();
            words[1] = write_line;
            words[0] = 1;
            while (words[2] == 0) std::this_thread::yield();
          },
          "p1");
      Child p2(
          [&] {
            while (order % 2 == 0 && words[0] == 0) std::this_thread::yield();
            read();
            words[3] = read_line;
            words[0] = 1;
            while (words[2] == 0) std::this_thread::yield();
          },
          "p2");
      CHECK(test::eventually([&] { return words[1] != 0 && words[3] != 0; }));
      words[2] = 1;
      p1.wait();
      p2.wait();
    });
    CAPTURE(text);
    CHECK(lines_in(text) == 1);
    CHECK(text.find("manyhands: race on Value ") == 0);
    CHECK(text.find("race_test.cpp:" + std::to_string(words[1])) != std::string::npos);
    CHECK(text.find("race_test.cpp:" + std::to_string(words[3])) != std::string::npos);
    CHECK(text.find(order % 2 == 0 ? "p2 (pid" : "p1 (pid") <
          text.find(order % 2 == 0 ? "p1 (pid" : "p2 (pid"));
    CHECK(text.find(order % 2 == 0 ? " reads at " : " writes at ") != std::string::npos);
    CHECK(text.find(order % 2 == 0 ? " wrote it at " : " read it at ") != std::string::npos);
    CHECK(text.find("nothing orders the two; use update() or a Lock") != std::string::npos);
  }
}

// Programs for the test below: each is one test case of its own, which this program runs again.

TEST_CASE("program: the textbook" * doctest::skip()) {
  const Value<double> arg(0.0);
  Child p1([=] { arg *= 10; }, "mult");
  Child p2([=] { arg += 10; }, "add");
  p1.wait();
  p2.wait();
}

TEST_CASE("program: behind a barrier" * doctest::skip()) {
  const Value<int> v(0);
  const Barrier barrier(2);
  Child p1([=] {
    barrier.wait();
    v = 1;
    barrier.wait();
  });
  Child p2([=] {
    barrier.wait();
    v = 2;
    barrier.wait();
  });
  p1.wait();
  p2.wait();
}

TEST_CASE("program: all in order" * doctest::skip()) {
  const Value<double> arg(0.0);
  const auto add = [=] { arg.update([](double x) { return x + 10; }); };
  Child p1(add);
  Child p2(add);
  p1.wait();
  p2.wait();
  CHECK(arg == 20);
}

// What this program says on stderr when it runs that test case with these variables.
std::string run_again(const std::string& variables, const std::string& name) {
  const std::string command = variables + " /proc/" + std::to_string(::getpid()) +
                              "/exe --no-skip -tc='program: " + name + "' >/dev/null";
  return test::stderr_of([&] { CHECK(std::system(command.c_str()) == 0); });
}

TEST_CASE("a race is reported in every run of the program, with MANYHANDS_RACE only") {
  for (int run = 0; run < 20; ++run) {
    const std::string textbook = run_again("MANYHANDS_RACE=1", "the textbook");
    CHECK_MESSAGE(lines_in(textbook) >= 1, textbook);
    CHECK(textbook.find("mult (pid") != std::string::npos);
    CHECK(textbook.find("add (pid") != std::string::npos);
    const std::string barrier = run_again("MANYHANDS_RACE=1", "behind a barrier");
    CHECK_MESSAGE(lines_in(barrier) == 1, barrier);
    CHECK(run_again("MANYHANDS_RACE=1", "all in order") == "");
  }
  CHECK(run_again("MANYHANDS_RACE=0", "the textbook") == "");
  CHECK(run_again("", "the textbook") == "");
}

TEST_CASE("chaos says its seed once per program, and refuses what it does not understand") {
  const std::string text = run_again("MANYHANDS_SCHED=chaos:42 MANYHANDS_RACE=1", "the textbook");
  CHECK(text.find("manyhands: MANYHANDS_SCHED=chaos:42 delays") == 0);
  CHECK(text.find("MANYHANDS_SCHED", 20) == std::string::npos);
  CHECK(text.find("manyhands: race on Value 1: ") != std::string::npos);
  CHECK(run_again("MANYHANDS_SCHED=chaos", "all in order").find("manyhands: MANYHANDS_SCHED=chaos:") == 0);
  const std::string command =
      "MANYHANDS_SCHED=havoc /proc/" + std::to_string(::getpid()) + "/exe --version >/dev/null";
  const std::string refused = test::stderr_of([&] { CHECK(std::system(command.c_str()) != 0); });
  CHECK(refused.find("manyhands: MANYHANDS_SCHED is 'havoc'; it must be chaos:SEED") == 0);
}

TEST_CASE("what a Lock orders is no race") {
  test::watch_races();
  const Value<int> v(0);
  const Lock lock;
  const RLock recursive;
  const auto locked = [=] {
    for (int i = 0; i < 50; ++i) {
      const std::scoped_lock guard(lock);
      v += 1;
    }
  };
  check_silent(locked, locked);
  const auto recursively = [=] {
    for (int i = 0; i < 50; ++i) {
      const std::scoped_lock guard(recursive);
      const std::scoped_lock again(recursive);
      v += 1;
    }
  };
  const Value<int> w(0);
  check_silent(recursively, [=] {
    const std::scoped_lock guard(recursive);
    v += 1;
  });
  const auto own = [=] {
    for (int i = 0; i < 50; ++i) {
      const std::scoped_lock guard(w.lock());
      w += 1;
    }
  };
  check_silent(own, own);
}

TEST_CASE("updates and reads under the Value's own lock are no race") {
  test::watch_races();
  const Value<int> v(0);
  const auto work = [=] {
    for (int i = 0; i < 50; ++i) {
      v.update([](int n) { return n + 1; });
      static_cast<void>(v.read());
    }
  };
  check_silent(work, work);
}

TEST_CASE("what an Event orders is no race") {
  test::watch_races();
  const Value<int> v(0);
  const Event e;
  // Both orders of start must end: the second waits.
  const std::string text = test::stderr_of([&] {
    Child p1([=] {
      v = 1;
      e.set();
    });
    Child p2([=] {
      e.wait();
      v += 1;
    });
    Child p3([=] {
      while (!e.is_set()) std::this_thread::yield();
      if (v.read() < 1) ::_exit(2);
    });
    CHECK(p1.wait() == 0);
    CHECK(p2.wait() == 0);
    static_cast<void>(p3.wait());
  });
  // p3 comes after p1, but not after p2.
  CHECK(lines_in(text) <= 1);
  const Value<int> w(0);
  const Event there;
  const Event back;
  CHECK(test::stderr_of([&] {
          Child p1([=] {
            for (int i = 0; i < 50; ++i) {
              w += 1;
              there.set();
              back.wait();
              back.clear();
            }
          });
          Child p2([=] {
            for (int i = 0; i < 50; ++i) {
              there.wait();
              there.clear();
              w += 1;
              back.set();
            }
          });
          CHECK(p1.wait() == 0);
          CHECK(p2.wait() == 0);
        }) == "");
}

TEST_CASE("what a Semaphore orders is no race") {
  test::watch_races();
  const Value<int> v(0);
  const Semaphore s(1);
  const auto work = [=] {
    for (int i = 0; i < 50; ++i) {
      const std::scoped_lock guard(s);
      v += 1;
    }
  };
  check_silent(work, work);
}

TEST_CASE("what a Barrier orders is no race") {
  test::watch_races();
  const Value<int> a(0);
  const Value<int> b(0);
  const Barrier barrier(2);
  const auto work = [=](const Value<int>& mine, const Value<int>& other) {
    for (int i = 1; i <= 50; ++i) {
      mine = i;
      barrier.wait();
      if (other != i) ::_exit(2);
      barrier.wait();
    }
  };
  CHECK(test::stderr_of([&] {
          Child p1([=] { work(a, b); });
          Child p2([=] { work(b, a); });
          CHECK(p1.wait() == 0);
          CHECK(p2.wait() == 0);
        }) == "");
}

TEST_CASE("what a Condition orders is no race") {
  test::watch_races();
  const Value<int> v(0);
  const Value<int> turn(0);
  const Condition c;
  const auto play = [=](int me) {
    for (int i = 0; i < 30; ++i) {
      const std::scoped_lock guard(c);
      c.wait_for([&] { return turn == me; });
      v += 1;
      turn = 1 - me;
      c.notify();
    }
  };
  CHECK(test::stderr_of([&] {
          Child p1([=] { play(0); });
          Child p2([=] { play(1); });
          CHECK(p1.wait() == 0);
          CHECK(p2.wait() == 0);
        }) == "");
}

TEST_CASE("a child comes after what its parent did, and its parent after the child it waited for") {
  test::watch_races();
  const Value<int> v(0);
  CHECK(test::stderr_of([&] {
          for (int i = 0; i < 5; ++i) {
            v += 1;
            Child child([=] {
              v += 1;
              Child grandchild([=] { v += 1; });
              grandchild.wait();
              v += 1;
            });
            child.wait();
            v += 1;
          }
        }) == "");
  // But not after a child that runs still.
  const Words words;
  CHECK(lines_in(test::stderr_of([&] {
          Child child([=] {
            v += 1;
            words[0] = 1;
            for (;;) ::pause();
          });
          while (words[0] == 0) std::this_thread::yield();
          static_cast<void>(v.get());
        })) == 1);
  CHECK(lines_in(test::stderr_of([&] {
          words[1] = 0;
          Child child([=] {
            while (words[1] == 0) std::this_thread::yield();
            static_cast<void>(v.get());
          });
          v.set(1);
          words[1] = 1;
          child.wait();
        })) == 1);
}

TEST_CASE("what the process code says of start and join counts") {
  test::watch_races();
  const Value<int> v(0);
  const shm::BlockPtr process = shm::Block::create(64, shm::BlockKind::process);
  const Words words;
  CHECK(test::stderr_of([&] {
          // Forked before: as by a zygote.
          Child child([&] {
            while (words[0] == 0) std::this_thread::yield();
            shm::race::acquired(process->offset());
            v += 1;
            shm::race::released(process->offset());
            words[0] = 2;
            for (;;) ::pause();
          });
          v += 1;
          shm::race::released(process->offset());
          words[0] = 1;
          while (words[0] != 2) std::this_thread::yield();
          shm::race::acquired(process->offset());
          v += 1;
        }) == "");
}

TEST_CASE("threads of one process are watched too; their start and end are orders") {
  test::watch_races();
  const Value<int> v(0);
  CHECK(test::stderr_of([&] {
          v += 1;
          std::thread([&] { v += 1; }).join();
          v += 1;
        }) == "");
  std::atomic<int> step{0};
  CHECK(lines_in(test::stderr_of([&] {
          std::thread other([&] {
            static_cast<void>(v.get());
            step = 1;
            while (step != 2) std::this_thread::yield();
          });
          while (step != 1) std::this_thread::yield();
          v = 5;
          step = 2;
          other.join();
        })) == 1);
}

TEST_CASE("many readers at once are all remembered") {
  test::watch_races();
  const Value<int> v(0);
  const Words words;
  const std::string text = test::stderr_of([&] {
    std::vector<Child> readers;
    for (int i = 0; i < 20; ++i) {
      readers.emplace_back([&, i] {
        if (i == 7) {
          static_cast<void>(v.get());  // the only one on this line
        } else {
          static_cast<void>(v.get());
        }
        ++words[0];
        for (;;) ::pause();
      });
    }
    CHECK(test::eventually([&] { return words[0] == 20; }));
    v = 1;
  });
  CHECK(lines_in(text) == 2);
}

TEST_CASE("a block that is used again knows nothing of the one before") {
  test::watch_races();
  const Words words;
  std::optional<Value<int>> v(0);
  const shm::Offset place = v->block()->offset();
  CHECK(test::stderr_of([&] {
          Child child([&] {
            *v += 1;
            words[0] = 1;
            while (words[0] != 2) std::this_thread::yield();
            v.reset();
            words[0] = 3;
            for (;;) ::pause();
          });
          while (words[0] != 1) std::this_thread::yield();
          words[0] = 2;
          while (words[0] != 3) std::this_thread::yield();
          v.reset();
          const Value<int> next(0);
          CHECK(next.block()->offset() == place);
          next += 1;
        }) == "");
}

TEST_CASE("more threads than one part of a clock has entries for") {
  test::watch_races();
  const Value<int> v(0);
  const Lock lock;
  CHECK(test::stderr_of([&] {
          for (int i = 0; i < 250; ++i) {
            std::thread([&] {
              const std::scoped_lock guard(lock);
              v += 1;
            }).join();
          }
          const std::scoped_lock guard(lock);
          v += 1;
        }) == "");
  CHECK(v.read() == 251);
}

TEST_CASE("processes that are killed in the detector stop nobody, and who takes over comes after them") {
  test::watch_races();
  const Value<int> v(0);
  const Words words;
  CHECK(test::stderr_of([&] {
          for (int round = 0; round < 100; ++round) {
            Child child([=] {
              for (;;) v.update([](int n) { return n + 1; });
            });
            ::usleep(static_cast<useconds_t>(round * 37 % 1'000));
            child.kill();
            v.update([](int n) { return n + 1; });
          }
        }) == "");
}

TEST_CASE("who takes a lock over from one that was killed comes after it") {
  test::watch_races();
  const Value<int> v(0);
  const Lock lock({.when_abandoned = WhenAbandoned::adopt});
  const Words words;
  CHECK(test::stderr_of([&] {
          // Not its parent, which has waited for it.
          Child heir([=] {
            while (words[0] != 2) std::this_thread::yield();
            const std::scoped_lock guard(lock);
            v += 1;
          });
          Child dead([=] {
            lock.lock();
            v += 1;
            words[0] = 1;
            for (;;) ::pause();
          });
          CHECK(test::eventually([&] { return words[0] == 1; }));
          dead.kill();
          words[0] = 2;
          CHECK(heir.wait() == 0);
        }) == "");
}

TEST_CASE("two threads race in one address space, and one report comes of it") {
  test::watch_races();
  const Value<int> v(0);
  const auto before = shm::race::reported();
  test::stderr_of([&] {
    std::atomic<int> there{0};
    const auto work = [&] {
      static_cast<void>(shm::this_thread_token());
      static_cast<void>(Value<int>(0).get());  // has a clock
      ++there;
      while (there < 2) std::this_thread::yield();
      for (int i = 0; i < 1'000; ++i) v += 1;
      ++there;
      while (there != 4) std::this_thread::yield();
    };
    std::thread a(work);
    std::thread b(work);
    a.join();
    b.join();
  });
  CHECK(shm::race::reported() == before + 1);
}

}  // namespace
}  // namespace manyhands
