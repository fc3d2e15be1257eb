#include "manyhands/shm/value.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include "manyhands/base/error.hpp"
#include "tests/primitives.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

using test::Child;
using test::Recorder;

struct Point {
  double x = 0;
  double y = 0;
  double z = 0;
  bool operator==(const Point&) const = default;
};
enum class Color { red, green };

TEST_CASE("a Value is used like the value that it holds") {
  Value<double> v(1.5);
  CHECK(v == 1.5);
  CHECK((v = 3) == 3.0);
  CHECK((v += 4) == 7.0);
  CHECK((v -= 1) == 6.0);
  CHECK((v *= 10) == 60.0);
  CHECK((v /= 4) == 15.0);
  CHECK(v + v == 30.0);
  Value n(12);
  CHECK((n %= 7) == 5);
  CHECK((n |= 8) == 13);
  CHECK((n &= 12) == 12);
  CHECK((n ^= 4) == 8);
  CHECK(++n == 9);
  CHECK(n++ == 9);
  CHECK(--n == 9);
  CHECK(n-- == 9);
  CHECK(n.get() == 8);
  n.set(1);
  CHECK(n.get() == 1);
  n = v;
  CHECK(n == 15);
  CHECK(Value<int>().get() == 0);
  const Value<Color> color(Color::green);
  CHECK(color == Color::green);
  color = Color::red;
  CHECK(color == Color::red);
  const Value<Point> p(Point{1, 2, 3});
  CHECK(p.get() == Point{1, 2, 3});
  p = Point{4, 5, 6};
  CHECK(p.get().z == 6);
}

TEST_CASE("odd sizes keep every byte") {
  struct Three {
    char a, b, c;
    bool operator==(const Three&) const = default;
  };
  struct Twelve {
    std::int32_t a, b, c;
    bool operator==(const Twelve&) const = default;
  };
  Value<Three> three({'a', 'b', 'c'});
  Value<Twelve> twelve({1, 2, 3});
  CHECK(three.get() == Three{'a', 'b', 'c'});
  CHECK(twelve.get() == Twelve{1, 2, 3});
  CHECK(twelve.update([](Twelve t) { return t.c = 9, t; }).c == 9);
}

TEST_CASE("copies are the same value, also in lambdas and in other processes") {
  const Value<int> v(1);
  const auto add = [v] { v += 10; };
  add();
  CHECK(v == 11);
  Child child([v] { v *= 2; });
  CHECK(child.wait() == 0);
  CHECK(v == 22);
}

TEST_CASE("a message that names a Value of another type is refused") {
  const Value<int> v(7);
  CHECK(Value<int>(v.block()).get() == 7);
  CHECK_THROWS_WITH_AS(Value<float>(v.block()), doctest::Contains("was taken for a Value<float>"), Error);
  CHECK_THROWS_AS(Value<unsigned>(v.block()), Error);
  CHECK_THROWS_AS(Value<int>(Lock().block()), Error);
}

TEST_CASE("updates of two processes all count") {
  const Value<std::uint64_t> v(0);
  const Value<Point> p;
  const auto work = [=] {
    for (int i = 0; i < 20'000; ++i) {
      v.update([](std::uint64_t n) { return n + 1; });
      p.update([](Point q) { return Point{q.x + 1, q.y + 2, q.z + 3}; });
    }
  };
  Child a(work);
  Child b(work);
  CHECK(a.wait() == 0);
  CHECK(b.wait() == 0);
  CHECK(v == 40'000);
  CHECK(p.get() == Point{40'000, 80'000, 120'000});
}

TEST_CASE("updates of two threads all count, and read never sees half of one") {
  const Value<int> v(0);
  const Value<Point> p;
  std::atomic<bool> torn{false};
  const auto work = [&] {
    for (int i = 0; i < 5'000; ++i) {
      v.update([](int n) { return n + 1; });
      p.update([](Point q) { return Point{q.x + 1, q.y + 1, q.z + 1}; });
      const Point seen = p.read();
      if (seen.x != seen.y || seen.y != seen.z) torn = true;
      if (v.get() < 0) torn = true;
    }
  };
  std::thread a(work);
  work();
  a.join();
  CHECK_FALSE(torn);
  CHECK(v == 10'000);
  CHECK(p.get().x == 10'000);
}

TEST_CASE("update returns the new value, exchange the old one, compare_exchange whether it came to it") {
  const Value<int> v(1);
  CHECK(v.update([](int n) { return n + 1; }) == 2);
  CHECK(v.exchange(5) == 2);
  int expected = 4;
  CHECK_FALSE(v.compare_exchange(expected, 9));
  CHECK(expected == 5);
  CHECK(v.compare_exchange(expected, 9));
  CHECK(v.read() == 9);
}

TEST_CASE("an update that throws changes nothing and leaves the lock free") {
  const Value<int> v(1);
  CHECK_THROWS_AS(v.update([](int) -> int { throw std::runtime_error("no"); }), std::runtime_error);
  CHECK(v == 1);
  CHECK_FALSE(v.lock().locked());
}

TEST_CASE("an update does not lose what is stored without a lock meanwhile") {
  const Value<int> v(1);
  int calls = 0;
  CHECK(v.update([&](int n) {
    if (++calls == 1) v.set(100);
    return n + 1;
  }) == 101);
  CHECK(calls == 2);
}

TEST_CASE("with the lock several steps are one, and update works inside") {
  const Value<int> v(0);
  const auto work = [=] {
    for (int i = 0; i < 5'000; ++i) {
      std::scoped_lock guard(v.lock());
      v += 1;
      v.update([](int n) { return n + 1; });
      v -= 1;
    }
  };
  Child child(work);
  work();
  CHECK(child.wait() == 0);
  CHECK(v == 10'000);
}

TEST_CASE("a process that is killed while it holds the lock is reported once") {
  const Value<int> v(1);
  const test::Words words;
  Child child([=] {
    v.lock().lock();
    v = 2;
    words[0] = 1;
    for (;;) ::pause();
  });
  CHECK(test::eventually([&] { return words[0] == 1; }));
  child.kill();
  CHECK_THROWS_AS(v.update([](int n) { return n + 1; }), LockAbandoned);
  CHECK(v.update([](int n) { return n + 1; }) == 3);
}

TEST_CASE("a lock taken and released in any way leaves the Value as update expects it") {
  const Value<int> v(0);
  const auto state = [&] { return v.lock().state().when_abandoned; };
  {
    std::unique_lock guard(v.lock());
    CHECK(state() == WhenAbandoned::report);
    {
      std::scoped_lock again(v.lock());
      CHECK(v.lock().try_lock());
      v.lock().release();
    }
    CHECK(state() == WhenAbandoned::report);
    guard.unlock();
    CHECK(state() == WhenAbandoned::adopt);
    CHECK(guard.try_lock_for(std::chrono::seconds(1)));
  }
  CHECK(state() == WhenAbandoned::adopt);
  CHECK(v.lock().acquire());
  CHECK(state() == WhenAbandoned::report);
  v.lock().release();
  v.update([&](int) { return state() == WhenAbandoned::adopt ? 1 : 0; });
  CHECK(v == 1);
}

// Long enough that a kill often hits while it is written.
struct Long {
  std::array<std::uint64_t, 512> words{};

  static Long of(std::uint64_t n) {
    Long made;
    made.words.fill(n);
    return made;
  }
  bool whole() const {
    return std::all_of(words.begin(), words.end(), [&](std::uint64_t word) { return word == words[0]; });
  }
};

TEST_CASE("a process that is killed in an update or a store leaves all or nothing, and nobody notices") {
  const Value<Long> v;
  std::minstd_rand random(20'26);
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    const bool plain = round % 3 == 0;
    Child child([=] {
      for (;;) {
        const std::uint64_t next = v.get().words[0] + 1;
        if (plain) {
          v = Long::of(next);
        } else {
          v.update([](const Long& old) { return Long::of(old.words[0] + 1); });
        }
      }
    });
    const std::uint64_t before = v.read().words[0];
    REQUIRE(test::eventually([&] { return v.get().words[0] > before; }));
    for (auto left = random() % 4; left > 0; --left) REQUIRE(v.get().whole());
    ::usleep(static_cast<useconds_t>(random() % 100));
    child.kill();
    REQUIRE(v.get().whole());
    REQUIRE(v.read().whole());
    v.update([](const Long& old) { return old; });  // LockAbandoned would end the test
  }
}

TEST_CASE("after a report of one that ended with the lock, updates have their own policy again") {
  const Value<int> v(1);
  const auto leave_locked = [&] {
    Child child([=] { v.lock().lock(); });
    CHECK(child.wait() == 0);
  };
  const auto killed_in_update = [&] {
    Child child([=] { v.update([](int) -> int { ::_exit(0); }); });
    CHECK(child.wait() == 0);
  };
  leave_locked();
  CHECK_THROWS_AS(v.update([](int n) { return n + 1; }), LockAbandoned);
  killed_in_update();
  CHECK(v.update([](int n) { return n + 1; }) == 2);
  leave_locked();
  v.lock().release();  // whose holder has ended
  killed_in_update();
  CHECK(v.update([](int n) { return n + 1; }) == 3);
}

TEST_CASE("plain loads and stores of two threads are whole, whatever the size") {
  const Value<Long> v;
  std::atomic<bool> torn{false};
  const auto work = [&](std::uint64_t from) {
    for (std::uint64_t i = 0; i < 3'000; ++i) {
      if (i % 3 == 0) {
        v = Long::of(from + i);
      } else if (!v.get().whole()) {
        torn = true;
      }
    }
  };
  std::thread other([&] { work(1); });
  work(10'000);
  other.join();
  CHECK_FALSE(torn);
}

TEST_CASE("an update of a large value does not lose what is stored without a lock meanwhile") {
  const Value<Point> v;
  int calls = 0;
  const Point made = v.update([&](Point p) {
    if (++calls == 1) v.set({100, 200, 300});
    return Point{p.x + 1, p.y, p.z};
  });
  CHECK(made == Point{101, 200, 300});
  CHECK(calls == 2);
}

TEST_CASE("compound assignment announces a load and a store, with the line they stand on") {
  const Value<int> v(1);
  Recorder recorder;
  std::uint32_t line = 0;
  const auto check = [&](const char* kinds) {
    const auto operations = recorder.operations;
    CHECK(recorder.take() == kinds);
    for (const auto& operation : operations) {
      CHECK(operation.object == v.block()->offset());
      const std::string site = shm::describe(operation.site);
      CHECK_MESSAGE(site.find("value_test.cpp:" + std::to_string(line)) != std::string::npos, site);
    }
  };
  // clang-format off
  line = __LINE__; v += 10;
  check("load store");
  line = __LINE__; v = 3;
  check("store");
  line = __LINE__; ++v;
  check("load store");
  line = __LINE__; v--;
  check("load store");
  line = __LINE__; const int seen = v;
  check("load");
  line = __LINE__; v.set(seen + v.get());
  check("load store");
  line = __LINE__; v.update([](int n) { return n + 1; });
  // clang-format on
  CHECK(recorder.operations.front().kind == shm::OpKind::acquire);
  CHECK(shm::describe(recorder.operations.front().site).find(":" + std::to_string(line)) !=
        std::string::npos);
  CHECK(v == 7);
}

TEST_CASE("between the load and the store of an addition another one gets lost") {
  const Value<int> v(0);
  struct Interrupting : Recorder {
    void step(const shm::Operation& operation, shm::Readiness ready) override {
      if (operation.kind == shm::OpKind::store && when_blocked) std::exchange(when_blocked, nullptr)();
      Recorder::step(operation, ready);
    }
  } scheduler;
  scheduler.when_blocked = [&] { v += 10; };
  v += 1;
  CHECK(v.get() == 1);
}

}  // namespace
}  // namespace manyhands
