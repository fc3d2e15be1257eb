// Shared memory under attack: what others share goes on, or ends with an error, whoever is killed, and what a
// program shared is given back.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "manyhands/multicore.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace mh = manyhands;
using mh::test::eventually;
using namespace std::chrono_literals;

struct Family {
  mh::Queue<int> work;
  mh::Queue<int> done;
  mh::Lock lock;
  mh::Value<long> sum;
  mh::Barrier barrier;
  mh::Event finish;
};
namespace {

constexpr mh::Duration patience = 10s;  // far more than any of these waits may last

std::size_t open_files() { return mh::test::files_in("/proc/self/fd"); }
std::uint64_t blocks() { return mh::shm::heap_statistics().allocated; }

// Runs until it is killed.
void never_end(mh::Event running) {
  running.set();
  mh::Event().wait();
}

// ---- A family that shares everything at once.

// Takes a number, adds it to the sum, meets the others, hands the number on; until it is told to finish.
// What others do not survive is theirs to say: a barrier that broke is mended, an abandoned lock is taken.
void live(Family family, mh::Event running) {
  running.set();
  while (!family.finish.is_set()) {
    const std::optional<int> number = family.work.try_get();
    try {
      const std::scoped_lock guard(family.lock);
      family.sum.update([&](long sum) { return sum + number.value_or(0); });
    } catch (const mh::LockAbandoned&) {
    }
    try {
      family.barrier.wait(20ms);
    } catch (const mh::BrokenBarrier&) {
      family.barrier.reset();
    }
    if (number) family.done.put(*number);
  }
}

TEST_CASE(
    "of a family that shares a queue, lock, value, barrier and event, anybody may be killed at any moment") {
  constexpr std::size_t kills = 100;
  constexpr std::size_t members = 3;
  std::mt19937 random(20'231'122);
  Family family{mh::Queue<int>(64), mh::Queue<int>(16'384), {}, mh::Value<long>(0), mh::Barrier(members), {}};
  std::vector<mh::Process> living;
  std::vector<mh::Event> running(members);
  const auto start = [&](std::size_t i) {
    running[i] = mh::Event();
    return mh::Process{live, family, running[i]};
  };
  for (std::size_t i = 0; i < members; ++i) living.push_back(start(i));
  int put = 0;
  for (std::size_t kill = 0; kill < kills; ++kill) {
    const std::size_t victim = random() % members;
    REQUIRE(running[victim].wait(patience));
    const std::int64_t moment = mh::now_ns() + static_cast<std::int64_t>(random() % 3'000'000);
    while (mh::now_ns() < moment) put += family.work.try_put(put) ? 1 : 0;
    living[victim].kill();
    REQUIRE(living[victim].join(patience));
    living[victim] = start(victim);
  }
  // Those that are left go on, and finish when they are told to.
  const int last = put + 1'000'000;
  family.work.put(last, patience);
  std::vector<int> done;
  while (done.empty() || done.back() != last) done.push_back(family.done.get(patience));
  family.finish.set();
  for (auto& member : living) {
    REQUIRE(member.join(patience));
    CHECK(member.exit_code() == 0);
  }
  while (const auto number = family.done.try_get()) done.push_back(*number);
  // Nothing came twice, and at most what the victims had in their hands is missing.
  std::sort(done.begin(), done.end());
  CHECK(std::adjacent_find(done.begin(), done.end()) == done.end());
  std::size_t left = 0;
  while (family.work.try_get()) ++left;
  CHECK(done.size() + left + kills >= static_cast<std::size_t>(put) + 1);
  CHECK(family.lock.try_lock_for(patience));
  family.lock.unlock();
}

TEST_CASE("values whose put returned are taken, each once, though their producers are killed") {
  mh::Queue<std::string> queue(64);
  mh::Value<int> last(-1);  // the number of the last put() that returned
  for (int kill = 0; kill < 20; ++kill) {
    last = -1;
    mh::Event running;
    mh::Process producer{[](mh::Queue<std::string> out, mh::Value<int> put, mh::Event runs) {
                           runs.set();
                           for (int i = 0;; ++i) {
                             // in a cell, and in blocks of their own
                             out.put(std::to_string(i) + std::string(i % 3 == 0 ? 3U : 3000U, '.'));
                             put = i;
                           }
                         },
                         queue, last, running};
    REQUIRE(running.wait(patience));
    int next = 0;
    for (; next < 50 + kill; ++next) REQUIRE(std::stoi(queue.get(patience)) == next);
    producer.kill();
    REQUIRE(producer.join(patience));
    while (const auto text = queue.try_get()) CHECK(std::stoi(*text) == next++);
    CHECK(next >= last.get() + 1);
  }
}

// ---- Waits that can never end say so.

TEST_CASE("get, put and join on a queue that only a killed process knew beside us throw") {
  const auto with_victim = [](auto wait) {
    mh::Queue<int> queue(1);
    mh::Event running;
    mh::Process victim{[](mh::Queue<int>, mh::Event runs) { never_end(runs); }, queue, running};
    REQUIRE(running.wait(patience));
    victim.kill();
    const mh::Deadline soon(1s);
    CHECK_THROWS_WITH_AS(wait(queue), doctest::Contains("no other process or thread has it any more"),
                         mh::Error);
    CHECK_FALSE(soon.passed());
  };
  with_victim([](mh::Queue<int>& queue) { queue.get(); });
  with_victim([](mh::Queue<int>& queue) {
    queue.put(1);
    queue.put(2);
  });
  with_victim([](mh::Queue<int>& queue) {
    queue.put(1);
    queue.join();
  });
}

TEST_CASE("a stopped process is waited for no longer than asked, and ends by kill") {
  mh::Event running;
  mh::Process p{never_end, running};
  REQUIRE(running.wait(patience));
  ::kill(p.pid(), SIGSTOP);
  CHECK_FALSE(p.join(50ms));
  CHECK(p.is_alive());
  p.kill();
  REQUIRE(p.join(patience));
  CHECK(p.exit_code() == -SIGKILL);
}

TEST_CASE("the processes of a killed parent go with it, and what they held is given back") {
  mh::Queue<int> pids;
  const auto parent = [](mh::Queue<int> out) {
    std::vector<mh::Process> children;
    for (int i = 0; i < 4; ++i) {
      children.emplace_back(
          [](mh::Queue<int> queue) {
            queue.put(::getpid());
            mh::Event().wait();
          },
          out);
    }
    children[0].join();
  };
  mh::Process p{parent, pids};
  std::vector<int> children;
  for (int i = 0; i < 4; ++i) children.push_back(pids.get(patience));
  p.kill();
  REQUIRE(p.join(patience));
  for (const int child : children) CHECK(eventually([&] { return ::kill(child, 0) != 0; }, 1s));
  CHECK_THROWS_AS(pids.get(), mh::Error);
}

// ---- Threads, forks, odd orders.

TEST_CASE("a thread that ends with a lock is found out, whichever kind of lock") {
  const mh::Lock lock;
  const mh::RLock again;
  const mh::Value<int> value(1);
  std::thread([&] {
    lock.lock();
    again.lock();
    again.lock();
    value.lock().lock();
  }).join();
  CHECK_THROWS_AS(lock.lock(), mh::LockAbandoned);
  CHECK_THROWS_AS(again.lock(), mh::LockAbandoned);
  CHECK_THROWS_AS(value.update([](int x) { return x + 1; }), mh::LockAbandoned);
  value.update([](int x) { return x + 1; });
  CHECK(value.get() == 2);
  CHECK_FALSE(lock.locked());
  CHECK_FALSE(again.locked());
}

TEST_CASE("a process forked by hand while threads use locks and queues has all of them, too") {
  mh::Lock lock;
  mh::Queue<int> queue(100);
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        const std::scoped_lock guard(lock);
        const mh::Value<int> passing(3);
        queue.put(1);
        static_cast<void>(queue.try_get());
      }
    });
  }
  for (int i = 0; i < 30; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(10);
      try {
        mh::Value<int> mine(1);
        mine.update([](int x) { return x + 1; });
        mh::Queue<int> own(3);
        own.put(mine.get());
        const bool taken = lock.try_lock_for(patience);
        if (taken) lock.unlock();
        ::_exit(taken && own.get() == 2 ? 0 : 1);
      } catch (...) {
        ::_exit(2);
      }
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

TEST_CASE("what a forked child has stays when its parent lets go of it") {
  mh::Event dropped;
  mh::Array<int> array(1000);
  array[0] = 5;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(dropped.wait(patience) ? array[0] : 0);
  array = mh::Array<int>();
  mh::Array<int> other(1000);
  other[0] = 6;
  dropped.set();
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 5);
}

TEST_CASE("Process objects may be moved, replaced and destroyed in any order") {
  mh::Process a{[] {}};
  mh::Process b = std::move(a);
  CHECK_THROWS_WITH_AS(a.join(), doctest::Contains("moved from"), mh::Error);
  a = std::move(b);
  mh::Process& same = a;
  a = std::move(same);
  REQUIRE(a.join(patience));
  CHECK(a.exit_code() == 0);
  a = mh::Process{[] {}};
  a.detach();
  CHECK_THROWS_AS(a.detach(), mh::Error);
  std::vector<mh::Process> many;
  for (int i = 0; i < 10; ++i) many.emplace_back([] {});
  std::reverse(many.begin(), many.end());
  many.erase(many.begin() + 3);
  auto elsewhere = std::make_unique<mh::Process>([] {});
  std::thread([&] { elsewhere.reset(); }).join();
}

// ---- Nothing stays.

TEST_CASE("hundreds of processes, ended or killed, leave no block and no descriptor") {
  const auto run = [] {
    const mh::Value<int> value(0);
    const mh::Lock lock;
    mh::Process p{[](mh::Value<int> counter, mh::Lock mutex) {
                    const std::scoped_lock guard(mutex);
                    counter += 1;
                  },
                  value, lock};
    mh::Event running;
    mh::Process victim{never_end, running};
    REQUIRE(running.wait(patience));
    static_cast<void>(victim.sentinel());
    victim.kill();
    REQUIRE(victim.join(patience));
    REQUIRE(p.join(patience));
    REQUIRE(value.get() == 1);
  };
  run();
  const auto settled = [&](std::uint64_t before) {
    return eventually([&] { return blocks() <= before; }, 1s);
  };
  REQUIRE(eventually([] {
    mh::shm::sweep();
    return mh::active_children().empty();
  }));
  const std::uint64_t before = blocks();
  const std::size_t files = open_files();
  for (int i = 0; i < 100; ++i) run();
  CHECK(open_files() == files);
  CHECK(settled(before + 1));  // the zygote may keep a list of holdings more
}

TEST_CASE("ten thousand locks, values and events live at once, travel together, and go") {
  const std::size_t files = open_files();
  const std::uint64_t before = blocks();
  {
    std::vector<mh::Lock> locks(3'400);
    std::vector<mh::Event> events(3'400);
    std::vector<mh::Value<int>> values;
    for (int i = 0; i < 3'400; ++i) values.emplace_back(i);
    mh::Process p{[](std::vector<mh::Lock> ls, std::vector<mh::Event> es, std::vector<mh::Value<int>> vs) {
                    for (std::size_t i = 0; i < ls.size(); ++i) {
                      const std::scoped_lock guard(ls[i]);
                      vs[i] += 1;
                      es[i].set();
                    }
                  },
                  locks, events, values};
    CHECK(events.back().wait(patience));
    REQUIRE(p.join(patience));
    CHECK(p.exit_code() == 0);
    CHECK(values.back().get() == 3'400);
    CHECK(open_files() == files);
  }
  // Lists of what this process holds stay, one per 500 blocks.
  CHECK(eventually([&] { return blocks() < before + 60; }, 1s));
}

// ---- Odd values.

TEST_CASE("empty strings, strings at every border and values of megabytes pass a queue unchanged") {
  mh::Queue<std::string> queue(4);
  mh::Queue<std::string> back(4);
  mh::Process echo{[](mh::Queue<std::string> in, mh::Queue<std::string> out) {
                     for (const std::string& text : in) out.put(text);
                   },
                   queue, back};
  for (const std::size_t size : {0, 1, 107, 108, 109, 110, 111, 112, 113, 4'095, 4'096, 4'097, 20'000'000}) {
    const std::string text(size, '\0');
    queue.put(text, patience);
    CHECK(back.get(patience) == text);
  }
  queue.close();
}

TEST_CASE("arrays in containers in a queue stay the same memory, slices of slices and empty ones, too") {
  using Shelf = std::map<std::string, std::vector<mh::Array<int>>>;
  mh::Queue<Shelf> queue;
  mh::Array<int> array(100);
  for (int i = 0; i < 100; ++i) array[static_cast<std::size_t>(i)] = i;
  queue.put({{"", {}},
             {"slices", {array.slice(10, 20), array.slice(10, 20).slice(5, 6)}},
             {"empty", {mh::Array<int>(), mh::Array<int>(0), array.slice(7, 7)}}});
  mh::Process p{[](mh::Queue<Shelf> in) {
                  Shelf shelf = in.get();
                  if (shelf["empty"].size() != 3 || !shelf["empty"][2].empty())
                    throw std::logic_error("not empty");
                  shelf["slices"][0][5] = -1;
                  shelf["slices"][1][0] *= 7;
                },
                queue};
  REQUIRE(p.join(patience));
  CHECK(p.exit_code() == 0);
  CHECK(array[15] == -7);
}

TEST_CASE("an array of no elements passes every verb of a pool") {
  mh::Pool pool(2);
  const auto same = [](double x) { return x; };
  const mh::Array<double> none;
  const mh::Array<double> zero(0);
  const mh::Array<double> wide({0, 5});
  CHECK(pool.map(same, none).empty());
  CHECK(pool.map(same, zero).empty());
  CHECK(pool.map_shared(same, zero).empty());
  CHECK(pool.map_into(same, zero, none).empty());
  CHECK(pool.map([](mh::Array<double> part) { return part.size(); }, zero.split(3)) ==
        std::vector<std::size_t>(3, 0));
  CHECK(pool.apply([](mh::Array<double> a) { return a.slice(0, 0); }, wide).shape() == mh::Shape{0, 5});
  CHECK(wide.reshape({5, 0}).row(2).empty());
}

TEST_CASE("an end of a pipe travels through another pipe") {
  mh::Pipe carrier;
  mh::Pipe pipe;
  mh::Process p{[](mh::Connection c) { c.recv<mh::Connection>().send(std::string("by hand")); },
                carrier.second};
  carrier.first.send(pipe.second);
  CHECK(pipe.first.recv<std::string>(patience) == "by hand");
}

static_assert(std::is_base_of_v<mh::Error, mh::WireError>);  // what recv() throws has a name

TEST_CASE("a destructor that can only wait for ever kills the process instead, and says so") {
  const mh::Lock lock;
  pid_t pid = 0;
  const std::string said = mh::test::stderr_of([&] {
    const std::scoped_lock guard(lock);
    const mh::Process p{[](const mh::Lock& wanted) { wanted.lock(); }, lock};
    pid = p.pid();
    CHECK(eventually([] { return !mh::lock_report().waits.empty(); }));  // the last to wait gives way
  });
  CHECK(said.find("is killed, for it cannot be waited for") != std::string::npos);
  CHECK(mh::test::eventually([&] { return ::kill(pid, 0) != 0; }));
}

// ---- The race detector knows what orders tasks make.

// What this program says on stderr when it runs that test case with the detector on.
std::string races_in(const std::string& name) {
  const std::string command = "MANYHANDS_RACE=1 /proc/" + std::to_string(::getpid()) +
                              "/exe --no-skip -tc='program: " + name + "' >/dev/null";
  return mh::test::stderr_of([&] { CHECK(std::system(command.c_str()) == 0); });
}

template <class Pool>
void use_in_order() {
  Pool pool(2);
  const mh::Value<int> v(0);
  const auto more = [](const mh::Value<int>& value) { value += 1; };
  const auto look = [](const mh::Value<int>& value, int x) { return value.get() + x; };
  const std::vector<int> xs(8, 1);
  for (int i = 0; i < 10; ++i) {
    v = i;
    pool.apply(more, v);
    pool.apply_async(more, v).wait();
    v += 1;
    static_cast<void>(pool.map(mh::bind(look, v), xs));
    v += 1;
    for (const int x : pool.map_async(mh::bind(look, v), xs)) CHECK(x > 0);
    v += 1;
    pool.apply_async(more, v).then([=] { v += 1; }).get();
    auto polled = pool.apply_async(more, v);
    while (!polled.ready()) std::this_thread::yield();
    v += 1;
  }
  const auto make = [] {
    const mh::Value<int> made(0);
    made = 7;
    return made;
  };
  const auto made = pool.apply(make);
  CHECK(made.get() == 7);
  const auto fail = [](const mh::Value<int>& value) {
    value += 1;
    throw std::runtime_error("expected by the test");
  };
  CHECK_THROWS_AS(pool.apply(fail, v), std::runtime_error);
  v += 1;
}

template <class Pool>
void use_at_once() {
  Pool pool(2);
  const mh::Value<int> v(0);
  const mh::Value<int> there(0);
  const auto meet = [](const mh::Value<int>& value, const mh::Value<int>& count) {
    count.update([](int n) { return n + 1; });
    while (count.read() < 2) std::this_thread::yield();
    // Not before: a thread comes after all that its process did before it used its first Value.
    value += 1;
  };
  auto first = pool.apply_async(meet, v, there);
  pool.apply(meet, v, there);
  first.wait();
}

TEST_CASE("program: processes in order" * doctest::skip()) { use_in_order<mh::Pool>(); }
TEST_CASE("program: processes at once" * doctest::skip()) { use_at_once<mh::Pool>(); }
TEST_CASE("program: threads in order" * doctest::skip()) { use_in_order<mh::ThreadPool>(); }
TEST_CASE("program: threads at once" * doctest::skip()) { use_at_once<mh::ThreadPool>(); }

// What comes before the end of a process, however it ends, and before what a queue or a pipe tells of.
void hear_of_ends() {
  const mh::Value<int> v(0);
  const auto use = [&v](const auto& body) {
    mh::Process p{body, v};
    p.join();
    v += 1;
    mh::Process q{body, v};
    while (q.is_alive()) std::this_thread::yield();
    v += 1;
  };
  use([](const mh::Value<int>& value) { value = 1; });
  use([](const mh::Value<int>& value) {
    value = 1;
    std::exit(3);
  });
  use([](const mh::Value<int>& value) {
    value = 1;
    ::_exit(3);
  });
  use([](const mh::Value<int>& value) {
    value = 1;
    ::raise(SIGKILL);
  });
  mh::Pool pool(1);
  CHECK_THROWS_AS(pool.apply(
                      [](const mh::Value<int>& value) {
                        value = 1;
                        ::raise(SIGKILL);
                      },
                      v),
                  mh::WorkerDied);
  v += 1;

  mh::Queue<int> queue(1);
  mh::Process closer{[](const mh::Value<int>& value, mh::Queue<int> out) {
                       value = 1;
                       out.close();
                     },
                     v, queue};
  CHECK_THROWS_AS(static_cast<void>(queue.get()), mh::QueueClosed);
  v += 1;
  mh::Queue<int> work(1);
  work.put(1);
  mh::Process worker{[](const mh::Value<int>& value, mh::Queue<int> in) {
                       value = 1;
                       static_cast<void>(in.get());
                       value = 2;
                       in.task_done();
                     },
                     v, work};
  work.join();
  v += 1;
  mh::Queue<int> full(1);
  full.put(1);
  mh::Process taker{[](const mh::Value<int>& value, mh::Queue<int> in) {
                      value = 1;
                      static_cast<void>(in.get());
                    },
                    v, full};
  full.put(2);
  v += 1;
  mh::Process other_taker{[](const mh::Value<int>& value, mh::Queue<int> in) {
                            value = 1;
                            static_cast<void>(in.get());
                          },
                          v, full};
  CHECK(eventually([&] { return full.empty(); }));
  full.put(3);  // does not wait
  v += 1;
  mh::Pipe pipe;
  mh::Process talker{[](const mh::Value<int>& value, mh::Connection out) {
                       value = 1;
                       out.send(1);
                     },
                     v, pipe.second};
  CHECK(pipe.first.poll(mh::Deadline::never));
  v += 1;
}

TEST_CASE("program: ends" * doctest::skip()) { hear_of_ends(); }

TEST_CASE("the race detector knows what comes before the end of a process, a queue or a wait for room") {
  CHECK(races_in("ends") == "");
}

TEST_CASE("a Value that a Pool's tasks use in turn with their caller is no race, unless two use it at once") {
  CHECK(races_in("processes in order") == "");
  CHECK(races_in("processes at once").find("race on Value") != std::string::npos);
}

#if !defined(__SANITIZE_THREAD__)  // oneTBB is not instrumented
TEST_CASE(
    "a Value that a ThreadPool's tasks use in turn with their caller is no race, unless two use it at once") {
  CHECK(races_in("threads in order") == "");
  CHECK(races_in("threads at once").find("race on Value") != std::string::npos);
}
#endif

}  // namespace
