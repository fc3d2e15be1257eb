#include "manyhands/process/shared_codec.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/process/pool.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/process/queue.hpp"
#include "manyhands/shm/value.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

double sum(const Array<double>& a) { return std::accumulate(a.begin(), a.end(), 0.0); }

Array<double> counted(std::size_t size) {
  Array<double> a(size);
  std::iota(a.begin(), a.end(), 0.0);
  return a;
}

std::uint32_t refs(const Array<double>& a) { return shm::header_of(a.block()->offset()).refs.load(); }

TEST_CASE("an Array given to a task is the same memory there, and is let go of afterwards") {
  Pool pool(2);
  const Array<double> a = counted(100'000);
  pool.apply([](const Array<double>& x) { x[0] = sum(x); }, a);
  CHECK(a[0] == 4'999'950'000.0);
  CHECK(a[1] == 1);
  CHECK(test::eventually([&] { return refs(a) == 1; }));  // the worker drops it after it has answered
}

TEST_CASE("slices as the items of a map are worked on in place") {
  Pool pool(2);
  const Array<double> a = counted(1000);
  const auto sums = pool.map(
      [](const Array<double>& part) {
        for (double& x : part) x *= 2;
        return sum(part);
      },
      a.split(7));
  CHECK(std::accumulate(sums.begin(), sums.end(), 0.0) == 999'000);
  CHECK(a[999] == 1998);
}

TEST_CASE("an Array made in a worker outlives it as a result") {
  Array<double> made;
  std::vector<Array<double>> many;
  {
    Pool pool(2, {.max_tasks_per_worker = 1});
    made = pool.apply(counted, std::size_t{1000});
    many = pool.map(counted, std::vector<std::size_t>{10, 20, 30, 40, 50});
  }
  CHECK(made[999] == 999);
  CHECK(refs(made) == 1);
  REQUIRE(many.size() == 5);
  CHECK(many[4].size() == 50);
  CHECK(many[4][49] == 49);
}

TEST_CASE("results that nobody asks for are given back") {
  const Array<double> first(1);  // with which this process's list of what it holds begins
  static_cast<void>(
      Pool(1).apply(counted, std::size_t{1}));  // with which it keeps the surroundings of workers
  const auto before = shm::heap_statistics().allocated;
  {
    Pool pool(1);
    for (int i = 0; i < 10; ++i) static_cast<void>(pool.apply_async(counted, std::size_t{1000}));
    pool.map([](int) {}, std::vector<int>{1});
  }
  CHECK(test::eventually([&] { return shm::heap_statistics().allocated <= before; }));
}

TEST_CASE("map_into writes the results into the caller's Array, map_shared into a new one") {
  Pool pool(2);
  const Array<double> xs = counted(10'000);
  const Array<double> ys(20'000);
  const auto square = [](double x) { return x * x; };
  pool.map_into(square, xs, ys.slice(10'000, 20'000));
  CHECK(ys[0] == 0);
  CHECK(ys[9'999] == 0);
  CHECK(ys[10'003] == 9);
  CHECK(ys[19'999] == 9'999.0 * 9'999.0);
  const SharedVector<double> zs = pool.map_shared(square, xs.slice(5, 10));
  CHECK(std::vector<double>(zs.begin(), zs.end()) == std::vector<double>{25, 36, 49, 64, 81});
  CHECK(pool.map_shared([](int x) { return x + 1; }, std::vector<int>{1, 2, 3})[2] == 4);
  CHECK(pool.map_shared([](int x) { return x; }, std::vector<int>{}).empty());
  CHECK_THROWS_WITH_AS(pool.map_into(square, xs, Array<double>(3)),
                       doctest::Contains("10000 items, but the Array"), Error);
}

TEST_CASE("map_into in the background keeps items and results alive") {
  Pool pool(2);
  AsyncResult<Array<double>> result =
      pool.map_into_async([](double x) { return x + 1; }, counted(1000), Array<double>(1000));
  CHECK(result.get()[999] == 1000);
  AsyncResult<Array<double>> failing = pool.map_shared_async(
      [](double x) {
        if (x == 500) throw std::out_of_range("expected by the test");
        return x;
      },
      counted(1000));
  CHECK_THROWS_AS(failing.get(), std::out_of_range);
}

TEST_CASE("functions and initializers carry handles") {
  const Array<double> table = counted(100);
  const Array<double> started(4);
  Pool pool(2, {.initializer = bind([](const Array<double>& a) { a[3] = 1; }, started)});
  const auto ys =
      pool.map(bind([](const Array<double>& t, int i) { return t[static_cast<std::size_t>(i)]; }, table),
               std::vector<int>{5, 50});
  CHECK(ys == std::vector<double>{5, 50});
  CHECK(started[3] == 1);
}

TEST_CASE("a task that dies with an Array in its hands gives it back") {
  Pool pool(1);
  const Array<double> a = counted(10);
  CHECK_THROWS_AS(pool.apply(
                      [](const Array<double>& x) {
                        x[0] = 1;
                        ::raise(SIGKILL);
                      },
                      a),
                  WorkerDied);
  CHECK(pool.apply(sum, a) == 46);
  CHECK(test::eventually([&] { return refs(a) == 1; }));
}

TEST_CASE("errors of locks and queues reach the caller as themselves") {
  Pool pool(1);
  const Lock lock;
  CHECK_THROWS_AS(pool.apply(
                      [](const Lock& held) {
                        held.lock();
                        held.lock();
                      },
                      lock),
                  DeadlockError);
  Queue<int> queue(1);
  queue.close();
  CHECK_THROWS_AS(pool.apply([](Queue<int> in) { return in.get(); }, queue), QueueClosed);
}

struct Account {
  Value<int> balance;
  Array<double> history;
  Lock lock;
  std::string owner;
};
struct Bank {
  Account main;
  std::vector<Account> others;
  std::array<Value<int>, 2> totals;
};
static_assert(wire::Packable<Account> && wire::Packable<Bank>);
struct Borrowed {
  Value<int> balance;
  const std::string& owner;
};
struct Fixed {
  Value<int> balance;
  const int limit;
};
static_assert(!wire::Packable<Borrowed> && !wire::Packable<Fixed>);

TEST_CASE("structs whose members are handles travel, and the members stay handles") {
  const Account account{Value<int>(5), counted(10), {}, "me"};
  const auto pay = [](const Account& to, int sum) {
    const std::scoped_lock guard(to.lock);
    to.balance += sum;
    to.history[0] = sum;
    return to.owner + "!";
  };
  Process p{pay, account, 10};
  p.join();
  CHECK(account.balance.get() == 15);
  CHECK(account.history[0] == 10);
  Pool pool(1);
  CHECK(pool.apply(pay, account, 20) == "me!");
  CHECK(account.balance.get() == 35);
  Queue<Bank> queue(1);
  queue.put({account, {account, account}, {Value<int>(1), Value<int>(2)}});
  const Bank bank = queue.get();
  CHECK(bank.main.balance.block() == account.balance.block());
  CHECK(bank.others.at(1).lock == account.lock);
  CHECK(bank.totals[1].get() == 2);
}

TEST_CASE("a handle packed for nowhere is an error") {
  CHECK_THROWS_WITH_AS(static_cast<void>(wire::to_bytes(counted(3))),
                       doctest::Contains("Pool, Process, Queue or Pipe"), Error);
}

}  // namespace
}  // namespace manyhands
