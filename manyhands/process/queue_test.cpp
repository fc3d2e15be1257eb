#include "manyhands/process/queue.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/process/pipe.hpp"
#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/shm/array.hpp"
#include "manyhands/shm/barrier.hpp"
#include "manyhands/shm/condition.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"
#include "manyhands/wire/error.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using namespace std::chrono_literals;

TEST_CASE("values come out in the order in which they were put in, whatever their size and type") {
  Queue<std::string> texts(8);
  texts.put("one");
  texts.put(std::string(100'000, 'x'));
  texts.put("");
  CHECK(texts.size() == 3);
  CHECK(texts.get() == "one");
  CHECK(texts.get() == std::string(100'000, 'x'));
  CHECK(texts.get().empty());
  CHECK(texts.empty());
  Queue<std::map<std::string, std::vector<double>>> maps(2);
  maps.put({{"a", {1, 2}}, {"b", std::vector<double>(1000, 3)}});
  CHECK(maps.get().at("b").size() == 1000);
}

// Gives copies of what it holds, which its Codec packs.
class Track {
 public:
  explicit Track(std::vector<double> samples) : samples_(std::move(samples)) {}
  std::vector<double> samples() const { return samples_; }

 private:
  std::vector<double> samples_;
};

}  // namespace

template <>
struct wire::Codec<Track> {
  static void pack(Writer& writer, const Track& track) { wire::pack(writer, track.samples()); }
  static Track unpack(Reader& reader) { return Track(wire::unpack<std::vector<double>>(reader)); }
};

namespace {

TEST_CASE("large arrays that a Codec makes while it packs go through a queue, and to a process") {
  const std::vector<double> samples(20'000, 7.0);
  Queue<Track> queue(4);
  queue.put(Track(samples));
  CHECK(queue.get().samples() == samples);
  Process process{[](Queue<Track> out, const Track& track) { out.put(track); }, queue, Track(samples)};
  CHECK(queue.get().samples() == samples);
}

TEST_CASE("a full queue refuses, blocks, or times out, and keeps what it holds") {
  Queue<int> queue(2);
  CHECK(queue.try_put(1));
  queue.put(2);
  CHECK(queue.full());
  CHECK_FALSE(queue.try_put(3));
  CHECK_THROWS_WITH_AS(queue.put(3, 1ms), doctest::Contains("was full, with 2 values"), Timeout);
  CHECK_THROWS_AS(queue.put(3, -1ms), Timeout);
  CHECK(queue.get() == 1);
  CHECK(queue.try_get() == 2);
  CHECK(queue.try_get() == std::nullopt);
  CHECK_THROWS_WITH_AS(static_cast<void>(queue.get(1ms)), doctest::Contains("was empty"), Timeout);
}

TEST_CASE("a capacity of none, or of too many, is an error") {
  CHECK_THROWS_WITH_AS(Queue<int>(0), doctest::Contains("a capacity of 0 values"), Error);
  CHECK_THROWS_AS(Queue<int>(std::size_t{1} << 30), Error);
}

TEST_CASE("a closed queue gives what it holds, then says so") {
  Queue<int> queue(4, "jobs");
  queue.put(1);
  queue.put(2);
  queue.close();
  CHECK_THROWS_WITH_AS(queue.put(3), doctest::Contains("Queue 'jobs' is closed"), QueueClosed);
  std::vector<int> got;
  for (const int value : queue) got.push_back(value);
  CHECK(got == std::vector<int>{1, 2});
  CHECK_THROWS_WITH_AS(static_cast<void>(queue.get()), doctest::Contains("closed and empty"), QueueClosed);
}

TEST_CASE("join waits until every value is done with") {
  Queue<int> queue(10);
  for (int i = 0; i < 5; ++i) queue.put(i);
  CHECK_FALSE(queue.join(1ms));
  Process consumer{[](Queue<int> values) {
                     for ([[maybe_unused]] const int value : values) values.task_done();
                   },
                   queue};
  CHECK(queue.join());
  queue.close();
  consumer.join();
  CHECK(consumer.exit_code() == 0);
  CHECK_THROWS_WITH_AS(queue.task_done(), doctest::Contains("more often"), Error);
}

TEST_CASE("a get that nobody can ever answer is an error") {
  Queue<int> queue(1);
  CHECK_THROWS_WITH_AS(static_cast<void>(queue.get()), doctest::Contains("would wait for ever"), Error);
  queue.put(1);
  CHECK_THROWS_WITH_AS(queue.put(2), doctest::Contains("no other process or thread has it"), Error);
  Queue<int> shared(1);
  Process killed{[](Queue<int>) { ::raise(SIGKILL); }, shared};
  CHECK_THROWS_WITH_AS(static_cast<void>(shared.get()), doctest::Contains("would wait for ever"), Error);
}

#if !defined(__SANITIZE_THREAD__)  // whose own thread counts
TEST_CASE("a pool that has nothing to do with a queue does not keep a get from ending") {
  Pool pool(1);
  pool.apply([] {});
  Queue<int> queue(1);
  CHECK_THROWS_WITH_AS(static_cast<void>(queue.get()), doctest::Contains("would wait for ever"), Error);
}
#endif

TEST_CASE("what a pool has still to do keeps a wait going: initializer, task, continuation") {
  constexpr auto later = [] { sleep_for(1s); };
  const Event started;
  Pool pool(1, {.initializer = bind(
                    [](Event e) {
                      sleep_for(1s);
                      e.set();
                    },
                    started)});
  CHECK(started.wait());
  const Event ran;
  static_cast<void>(pool.apply_async(later));
  static_cast<void>(pool.apply_async([](Event e) { e.set(); }, ran));  // no process has it before that runs
  CHECK(ran.wait());
  const Event mapped;
  static_cast<void>(pool.apply_async(later));
  static_cast<void>(pool.map_async(bind([](Event e, int) { e.set(); }, mapped), std::vector<int>{1}));
  CHECK(mapped.wait());
  const Event continued;
  static_cast<void>(pool.apply_async(later).then([=] { continued.set(); }));
  CHECK(continued.wait());
#if !defined(__SANITIZE_THREAD__)          // whose own thread counts
  CHECK_THROWS_AS(Event().wait(), Error);  // now nothing is left to do
#endif
}

#if !defined(__SANITIZE_THREAD__)  // whose own thread counts
TEST_CASE("who waits at a barrier is told when one that never came has died and all others wait, too") {
  const Barrier barrier(3);
  const Value<int> told(0);
  const auto come = [](Barrier b, Value<int> counter) {
    try {
      b.wait();
    } catch (const BrokenBarrier& error) {
      if (std::string(error.what()).find("2 of 3 had come, and nobody is left") != std::string::npos)
        counter.update([](int n) { return n + 1; });
    }
  };
  Process a{come, barrier, told};
  Process b{come, barrier, told};
  Process dead{[](Barrier) { ::raise(SIGKILL); }, barrier};
  a.join();
  b.join();
  CHECK(told.get() == 2);
}
#endif

TEST_CASE("a parent that has not joined yet may still come to a barrier") {
  const Barrier barrier(3);
  const Value<int> passed(0);
  const auto come = [](Barrier b, Value<int> counter) {
    b.wait();
    counter.update([](int n) { return n + 1; });
  };
  Process a{come, barrier, passed};
  Process b{come, barrier, passed};
  CHECK_FALSE(a.join(1s));
  barrier.wait();
  a.join();
  b.join();
  CHECK(passed.get() == 2);
}

TEST_CASE("handles travel through a queue and stay alive in it") {
  Queue<Array<int>> queue(4);
  {
    Array<int> a(1000);
    a[7] = 7;
    queue.put(a);
  }
  Process p{[](Queue<Array<int>> in) {
              const Array<int> got = in.get();
              got[8] = got[7] + 1;
              in.put(got);
            },
            queue};
  p.join();
  CHECK(queue.get()[8] == 8);
  const auto before = shm::heap_statistics().allocated;
  {
    Queue<Array<int>> dropped(4);
    dropped.put(Array<int>(1000));
  }
  CHECK(shm::heap_statistics().allocated == before);
}

TEST_CASE("a queue is of one type") {
  const Queue<int> queue(1);
  CHECK_THROWS_WITH_AS(Queue<double>(queue.block()), doctest::Contains("another type"), Error);
}

TEST_CASE("two threads, one queue: every value once and in order") {
  Queue<int> queue(16);
  constexpr int count = 20'000;
  std::thread producer([copy = queue]() mutable {
    for (int i = 0; i < count; ++i) copy.put(i);
  });
  bool ordered = true;
  for (int i = 0; i < count; ++i) ordered = queue.get() == i && ordered;
  producer.join();
  CHECK(ordered);
}

TEST_CASE("several producers and consumers in processes and threads: every value once") {
  Queue<int> queue(32);
  Queue<int> out(100'000);
  constexpr int each = 2'000;
  std::vector<Process> processes;
  for (int p = 0; p < 3; ++p) {
    processes.emplace_back(
        [](Queue<int> to, int first) {
          for (int i = 0; i < each; ++i) to.put(first + i);
        },
        queue, p * each);
  }
  for (int c = 0; c < 2; ++c) {
    processes.emplace_back(
        [](Queue<int> from, Queue<int> to) {
          for (const int value : from) to.put(value);
        },
        queue, out);
  }
  for (std::size_t i = 0; i < 3; ++i) processes[i].join();
  queue.close();
  processes.clear();
  std::set<int> seen;
  while (const auto value = out.try_get()) CHECK(seen.insert(*value).second);
  CHECK(seen.size() == 3 * each);
}

TEST_CASE("consumers killed at random moments lose at most the value that they were taking") {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    Queue<std::string> queue(4);
    Queue<int> out(1000);
    const auto work = [](Queue<std::string> from, Queue<int> to) {
      for (const std::string& text : from) to.put(std::stoi(text));
    };
    Process victim{work, queue, out};
    Process other{work, queue, out};
    const int kill_at = static_cast<int>(random() % 60);
    for (int i = 0; i < 60; ++i) {
      if (i == kill_at) victim.kill();
      queue.put(std::to_string(i) + std::string(i % 2 == 0 ? 0 : 200, ' '), 5s);
    }
    queue.close();
    REQUIRE(other.join(5s));
    CHECK(other.exit_code() == 0);
    victim.join();
    std::set<int> seen;
    while (const auto value = out.try_get()) CHECK(seen.insert(*value).second);
    CHECK(seen.size() >= 59);
  }
}

TEST_CASE("producers killed at random moments leave the queue whole for the others") {
  std::mt19937 random(2);
  for (int round = 0; round < 100; ++round) {
    Queue<std::vector<int>> queue(4);
    const auto work = [](Queue<std::vector<int>> to, int producer) {
      for (int i = 0;; ++i) to.put(std::vector<int>(i % 2 == 0 ? 3 : 300, producer * 1'000'000 + i));
    };
    Process victim{work, queue, 1};
    Process other{work, queue, 2};
    std::map<int, int> next;
    const int kill_at = static_cast<int>(random() % 40);
    for (int i = 0; i < 60; ++i) {
      if (i == kill_at) victim.kill();
      const auto value = queue.get(5s);
      REQUIRE(!value.empty());
      const int producer = value[0] / 1'000'000;
      CHECK(value[0] % 1'000'000 == next[producer]++);  // in order, none lost, none twice
      CHECK(value.front() == value.back());
    }
    other.kill();
  }
}

TEST_CASE("a forked process that was killed and never joined is missed all the same") {
  Queue<int> queue(1);
  Process killed{{.start = Start::fork}, [](Queue<int>) { ::raise(SIGKILL); }, queue};
  CHECK_THROWS_WITH_AS(static_cast<void>(queue.get()), doctest::Contains("would wait for ever"), Error);
  Pipe pipe;
  Process also{{.start = Start::fork}, [](Connection) { ::raise(SIGKILL); }, std::move(pipe.second)};
  pipe.second = pipe.first;  // ours is gone
  CHECK_THROWS_AS(static_cast<void>(pipe.first.recv<int>(20s)), EndOfPipe);
}

TEST_CASE("a pipe carries values of any type both ways") {
  Pipe pipe;
  Process p{[](Connection c) {
              const auto text = c.recv<std::string>();
              const auto numbers = c.recv<std::vector<double>>();
              c.send(text + "!");
              c.send(numbers.size());
            },
            pipe.second};
  pipe.first.send(std::string("hello"));
  pipe.first.send(std::vector<double>(10'000));
  CHECK(pipe.first.recv<std::string>() == "hello!");
  CHECK(pipe.first.poll(10s));
  CHECK(pipe.first.recv<std::size_t>() == 10'000);
  CHECK_FALSE(pipe.first.poll());
  CHECK(pipe.first.try_recv<int>() == std::nullopt);
  CHECK_THROWS_WITH_AS(static_cast<void>(pipe.first.recv<int>(1ms)),
                       doctest::Contains("nothing came over pipe connection"), Timeout);
  for (int i = 0; i < 1024; ++i) pipe.first.send(i);
  CHECK_THROWS_WITH_AS(pipe.first.send(0, 1ms), doctest::Contains("left 1024 values waiting"), Timeout);
  pipe.second.send(std::string("text"));
  CHECK_THROWS_AS(static_cast<void>(pipe.first.recv<int>()), WireError);
}

TEST_CASE("the end of one side of a pipe is seen by the other, after what it sent") {
  std::optional<Connection> mine;
  std::optional<Process> p;
  {
    Pipe pipe;
    mine = pipe.first;
    p.emplace(
        [](Connection c) {
          c.send(1);
          ::raise(SIGKILL);
        },
        pipe.second);
  }
  CHECK(mine->recv<int>() == 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(mine->recv<int>()),
                       doctest::Contains("the other end of this pipe is gone"), EndOfPipe);
  CHECK_THROWS_AS(mine->send(1), EndOfPipe);
  CHECK(mine->poll());
}

// ---- Waits that nobody can end any more.

template <class Wait>
std::string error_text(const Wait& wait) {
  try {
    wait();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

using Texts = Queue<std::string>;
template <class Handle>
using Waiter = void (*)(Handle, Texts);

// What `count` processes get that wait for `handle` when the only other user of it is killed. This process
// knows the handle, too, but waits for the end of the others.
template <class Handle>
std::vector<std::string> errors_of(Waiter<Handle> wait, const Handle& handle, int count) {
  Event has_it;
  Process victim{[](const Handle&, const Event& told) {
                   told.set();
                   for (;;) ::pause();
                 },
                 handle, has_it};
  has_it.wait();
  Texts texts(16);
  std::vector<Process> waiters;
  for (int i = 0; i < count; ++i) waiters.emplace_back(wait, handle, texts);
  victim.kill();
  for (Process& waiter : waiters) waiter.join();
  std::vector<std::string> found;
  while (auto text = texts.try_get()) found.push_back(*std::move(text));
  return found;
}

template <class Handle>
void check_all_hear(Waiter<Handle> wait, const Handle& handle, const std::string& part) {
  for (const int count : {1, 3}) {
    const auto errors = errors_of(wait, handle, count);
    CHECK(errors.size() == static_cast<std::size_t>(count));
    for (const std::string& error : errors) CHECK(error.find(part) != std::string::npos);
  }
}

#if !defined(__SANITIZE_THREAD__)  // whose own thread in each process counts as one that might do something
TEST_CASE(
    "waiters that are left to themselves all hear of it, though each still has the handle, and its parent, "
    "too") {
  using Q = Queue<int>;
  check_all_hear<Q>([](Q q, Texts out) { out.put(error_text([&] { static_cast<void>(q.get()); })); }, Q(2),
                    "would wait for ever");
  Q full(1);
  full.put(1);
  check_all_hear<Q>([](Q q, Texts out) { out.put(error_text([&] { q.put(2); })); }, full,
                    "would wait for ever");
  check_all_hear<Q>([](Q q, Texts out) { out.put(error_text([&] { q.join(); })); }, full,
                    "would wait for ever");
  check_all_hear<Event>([](Event e, Texts out) { out.put(error_text([&] { e.wait(); })); }, Event(),
                        "would last for ever");
  check_all_hear<Semaphore>([](Semaphore s, Texts out) { out.put(error_text([&] { s.acquire(); })); },
                            Semaphore(0), "would last for ever");
  check_all_hear<Condition>(
      [](Condition c, Texts out) {
        const std::scoped_lock guard(c);
        out.put(error_text([&] { c.wait(); }));
      },
      Condition(), "would last for ever");
}

TEST_CASE("a pipe whose ends only wait for each other, or only this process has, is an error on both") {
  Pipe pipe;
  {
    Process child{[](const Connection&) {
                    for (;;) ::pause();
                  },
                  pipe.second};
    child.kill();
  }
  CHECK(error_text([&] { pipe.first.recv<int>(); }).find("recv() on pipe connection") != std::string::npos);
  Texts texts(2);
  Process child{[](Connection end, Texts out) { out.put(error_text([&] { end.recv<int>(); })); }, pipe.second,
                texts};
  CHECK(error_text([&] { pipe.first.recv<int>(); }).find("would wait for ever") != std::string::npos);
  child.join();
  CHECK(texts.get().find("would wait for ever") != std::string::npos);
  pipe.first.send(1);
  CHECK(pipe.second.recv<int>() == 1);
}

#endif

TEST_CASE("a waiter counts as company while somebody waits with a time limit, or has not looked yet") {
  const Event e;
  Process late{[](const Event& event) {
                 const Event never;
                 if (!never.wait(1500ms)) event.set();
               },
               e};
  CHECK(e.wait());
}

TEST_CASE("join() on a queue does not count what a killed producer did not put in") {
  for (int round = 0; round < 60; ++round) {
    Queue<int> queue(64);
    Process producer{[](Queue<int> out) {
                       for (int i = 0;; ++i) out.put(i);
                     },
                     queue};
    static_cast<void>(queue.get());
    queue.task_done();
    producer.kill();
    producer.join();
    while (queue.try_get()) queue.task_done();
    REQUIRE(queue.join(10s));
    CHECK_THROWS_AS(queue.task_done(), Error);
  }
}

TEST_CASE("a stopped process delays others at its end of the queue by a bounded time") {
  Queue<std::string> queue(8);
  const std::string large(200'000, 'x');
  Process user{[](Queue<std::string> both, const std::string& text) {
                 for (;;) {
                   static_cast<void>(both.try_put(text));
                   static_cast<void>(both.try_get());
                 }
               },
               queue, large};
  for (int round = 0; round < 60; ++round) {
    ::kill(user.pid(), SIGSTOP);
    const Deadline soon(5s);
    static_cast<void>(queue.try_put("ours"));
    static_cast<void>(queue.try_get());
    try {
      static_cast<void>(queue.get(10ms));
    } catch (const Timeout&) {
    }
    REQUIRE_FALSE(soon.passed());
    ::kill(user.pid(), SIGCONT);
  }
  user.kill();
}

}  // namespace
}  // namespace manyhands
