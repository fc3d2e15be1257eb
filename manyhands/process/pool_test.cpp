// What a Pool promises when nothing goes wrong. What happens when something does: tests/faults_test.cpp.
#include "manyhands/process/pool.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <complex>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <set>
#include <string>
#include <thread>
#include <variant>

#include "manyhands/shm/semaphore.hpp"
#include "manyhands/task/progress.hpp"
#include "manyhands/task/this_task.hpp"
#include "tests/support.hpp"

namespace manyhands {
namespace {

static_assert(Executor<Pool>);

double square(double x) { return x * x; }
int add(int a, int b) { return a + b; }

std::vector<double> numbers(std::size_t count) {
  std::vector<double> xs(count);
  std::iota(xs.begin(), xs.end(), 0.0);
  return xs;
}

// Its Codec packs a temporary with a large array in it.
class Signal {
 public:
  Signal(std::string name, std::vector<double> samples)
      : name_(std::move(name)), samples_(std::move(samples)) {}
  const std::string& name() const { return name_; }
  std::vector<double> samples() const { return samples_; }

 private:
  std::string name_;
  std::vector<double> samples_;
};

}  // namespace

template <>
struct wire::Codec<Signal> {
  static void pack(Writer& writer, const Signal& s) { wire::pack(writer, std::tuple(s.name(), s.samples())); }
  static Signal unpack(Reader& reader) {
    return std::make_from_tuple<Signal>(wire::unpack<std::tuple<std::string, std::vector<double>>>(reader));
  }
};

namespace {

// ---- map

TEST_CASE("map gives the results in the order of the items, however many") {
  Pool pool(2);
  for (const std::size_t count : {1U, 2U, 3U, 255U, 1000U, 100'001U}) {
    const auto xs = numbers(count);
    const std::vector<double> ys = pool.map(square, xs);
    REQUIRE(ys.size() == count);
    for (std::size_t i = 0; i < count; ++i) REQUIRE(ys[i] == xs[i] * xs[i]);
  }
}

TEST_CASE("a map over nothing is nothing, and more workers than items do no harm") {
  Pool pool(3);
  CHECK(pool.map(square, std::vector<double>()).empty());
  CHECK(pool.map(square, std::vector<double>{3}) == std::vector<double>{9});
  CHECK(pool.map([](const std::string& s) { return s; }, std::vector<std::string>()).empty());
}

TEST_CASE("items and results of every shape travel") {
  Pool pool(2);
  const std::vector<std::string> words{"many", "hands", "", std::string(100'000, 'x')};
  CHECK(pool.map([](const std::string& s) { return s.size(); }, words) ==
        std::vector<std::size_t>{4, 5, 0, 100'000});
  CHECK(pool.map([](int n) { return std::string(static_cast<std::size_t>(n), 'a'); },
                 std::vector<int>{0, 3, 50'000})[2]
            .size() == 50'000);
  CHECK(pool.map([](int n) { return n % 2 == 0; }, std::vector<int>{1, 2, 3}) ==
        std::vector<bool>{false, true, false});
  const std::list<int> list{1, 2, 3};
  CHECK(pool.map([](int x) { return -x; }, list) == std::vector<int>{-1, -2, -3});
  const std::vector<bool> bits{true, false, true};
  CHECK(pool.map([](bool bit) { return bit ? 1 : 0; }, bits) == std::vector<int>{1, 0, 1});
  int sum = 0;
  for (const int bit : pool.imap([](bool bit) { return bit ? 1 : 0; }, bits, {.chunk = 2})) sum += bit;
  CHECK(sum == 2);
  const std::map<std::string, int> ages{{"ada", 36}, {"bob", 7}};
  CHECK(
      pool.map([](const std::pair<const std::string, int>& p) { return p.first + std::to_string(p.second); },
               ages) == std::vector<std::string>{"ada36", "bob7"});
}

struct Particle {
  double x, y;
  int charge;
  bool operator==(const Particle&) const = default;
};
struct Event {
  std::string name;
  std::vector<Particle> particles;
  std::optional<std::variant<int, std::string>> tag;
  std::map<std::string, std::complex<double>> amplitudes;
  bool operator==(const Event&) const = default;
};

class Temperature {  // no aggregate: travels by its own codec
 public:
  explicit Temperature(double kelvin) : kelvin_(kelvin) {}
  double kelvin() const { return kelvin_; }

 private:
  double kelvin_;
};

}  // namespace
}  // namespace manyhands

template <>
struct manyhands::wire::Codec<manyhands::Temperature> {
  static void pack(Writer& writer, const Temperature& t) { writer.real(t.kelvin()); }
  static Temperature unpack(Reader& reader) { return Temperature(reader.real()); }
};

namespace manyhands {
namespace {

TEST_CASE("plain structs, nested structs and types with their own codec travel both ways") {
  Pool pool(2);
  const std::vector<Particle> particles{{1, 2, 3}, {4, 5, 6}};
  CHECK(pool.map([](Particle p) { return Particle{p.y, p.x, -p.charge}; }, particles) ==
        std::vector<Particle>{{2, 1, -3}, {5, 4, -6}});
  const Event event{"decay", particles, std::string("beta"), {{"a", {1, 2}}}};
  CHECK(pool.apply([](Event e) { return e; }, event) == event);
  CHECK(pool.apply([](const Temperature& t) { return Temperature(t.kelvin() + 1); }, Temperature(300))
            .kelvin() == 301);
}

TEST_CASE("large arrays arrive whole that a Codec or a view makes while it is packed") {
  Pool pool(2);
  const auto made = [](int i) { return Signal(std::to_string(i), std::vector<double>(20'000, i)); };
  const auto wrong = [](const Signal& s) {
    const double expected = std::stod(s.name());
    return std::ranges::count_if(s.samples(), [&](double x) { return x != expected; });
  };
  const auto none = std::vector<std::ptrdiff_t>(4);
  CHECK(pool.apply(wrong, made(1)) == 0);
  CHECK(pool.apply([wrong](const Signal& a, const Signal& b) { return wrong(a) + wrong(b); }, made(1),
                   made(2)) == 0);
  CHECK(pool.map(wrong, std::vector<Signal>{made(1), made(2), made(3), made(4)}) == none);
  CHECK(pool.map(wrong, std::views::iota(1, 5) | std::views::transform(made)) == none);
  std::vector<std::ptrdiff_t> streamed;
  for (const auto n : pool.imap(wrong, std::views::iota(1, 5) | std::views::transform(made)))
    streamed.push_back(n);
  CHECK(streamed == none);
  CHECK(wrong(pool.apply(made, 5)) == 0);
  for (const Signal& s : pool.map(made, std::views::iota(1, 5))) CHECK(wrong(s) == 0);
  // A view may also refer to what it writes over for the next item.
  Signal scratch = made(0);
  const auto refer = [&scratch, made](int i) -> const Signal& { return scratch = made(i); };
  CHECK(pool.map(wrong, std::views::iota(1, 5) | std::views::transform(refer)) == none);
}

TEST_CASE("functions: plain, closure, function object, bind") {
  Pool pool(2);
  const std::vector<double> xs{1, 2};
  const double k = 10;
  struct Polynomial {
    std::vector<double> coefficients;
    double operator()(double x) const { return coefficients[0] + coefficients[1] * x; }
  };
  CHECK(pool.map(&square, xs) == std::vector<double>{1, 4});
  CHECK(pool.map([k](double x) { return k * x; }, xs) == std::vector<double>{10, 20});
  CHECK(pool.map(Polynomial{{1, 2}}, xs) == std::vector<double>{3, 5});
  CHECK(pool.map(
            bind([](const std::string& unit, double x) { return std::to_string(static_cast<int>(x)) + unit; },
                 " m"),
            xs) == std::vector<std::string>{"1 m", "2 m"});
}

class Model {  // maps by a member function, with this captured
 public:
  std::vector<double> run(Pool& pool, double k) const {
    return pool.map([this](double x) { return factor_ * x; }, std::vector<double>{k});
  }
  std::vector<double> run_scaled(Pool& pool, double k) const {
    return pool.map([this, k](double x) { return k * factor_ * x; }, std::vector<double>{1});
  }
  std::vector<double> run_without(Pool& pool, double k) const {
    return pool.map([this, k](double x) { return static_cast<void>(this), k * x; }, std::vector<double>{1});
  }

 private:
  double factor_ = 2;
};

TEST_CASE("a captured pointer to the heap is named in an error, at the call or where it is used") {
  Pool pool(1);
  const auto model = std::make_unique<Model>();
  CHECK_THROWS_WITH_AS(model->run(pool, 1), doctest::Contains("bytes 0-7 of its captures"), Error);
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // their own looks at the address come first
  CHECK_THROWS_WITH_AS(model->run_scaled(pool, 1), doctest::Contains("bytes 0-7 of its captures"),
                       WorkerDied);
#else
  CHECK_THROWS_AS(model->run_scaled(pool, 1), WorkerDied);
#endif
  CHECK(model->run_without(pool, 3) == std::vector<double>{3});
}

TEST_CASE("captured pointers to static data, literals and shared memory lead to the same in a worker") {
  for (const Start start : {Start::zygote, Start::spawn}) {
    Pool pool(1, {.start = start});
    static const int constants[3] = {1, 2, 3};
    const int* const at = &constants[1];
    const char* const text = "literal";
    CHECK(pool.apply([at, text, f = &add](int i) { return f(at[i], text[0]); }, 1) == 3 + 'l');
    Array<double> array(Shape(100'000));
    double* const last = array.data() + 99'999;
    pool.apply([last, k = 5.0] { *last = k; });
    CHECK(*last == 5.0);
  }
}

TEST_CASE("starmap takes tuples and pairs apart") {
  Pool pool(2);
  CHECK(pool.starmap(add, std::vector<std::tuple<int, int>>{{1, 2}, {3, 4}}) == std::vector<int>{3, 7});
  CHECK(pool.starmap(add, std::vector<std::pair<int, int>>{{1, 2}}) == std::vector<int>{3});
}

TEST_CASE("a function that returns nothing can be mapped and applied") {
  Pool pool(2);
  pool.map([](int) {}, std::vector<int>{1, 2, 3});
  pool.apply([] {});
  auto result = pool.map_async([](int) {}, std::vector<int>{1, 2, 3});
  result.get();
  CHECK(result.successful());
}

TEST_CASE("chunk says how many items a worker takes at a time") {
  Pool pool(2);
  auto result = pool.map_async(square, numbers(100), {.chunk = 30});
  result.wait();
  const auto chunks = result.metadata();
  REQUIRE(chunks.size() == 4);
  CHECK(chunks[1].first == 30);
  CHECK(chunks[3].count == 10);
  CHECK(pool.map_async(square, numbers(100), {.chunk = 1000}).get().size() == 100);
}

TEST_CASE("map_async copies its items before it returns") {
  Pool pool(2);
  auto xs = numbers(300'000);
  auto result = pool.map_async(square, xs);
  std::fill(xs.begin(), xs.end(), -1);
  CHECK(result.get()[299'999] == 299'999.0 * 299'999.0);
}

TEST_CASE("several maps and calls run at once, from several threads") {
  Pool pool(2);
  std::vector<std::jthread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, &right, t] {
      for (int round = 0; round < 20; ++round) {
        const auto ys = pool.map([t](int x) { return x + t; }, std::vector<int>(500, round));
        if (ys == std::vector<int>(500, round + t)) ++right;
        if (pool.apply(add, t, round) == t + round) ++right;
      }
    });
  }
  threads.clear();
  CHECK(right == 4 * 20 * 2);
}

TEST_CASE("more maps at once than the board has places wait for one") {
  Pool pool(2);
  std::vector<AsyncResult<std::vector<int>>> results;
  for (int i = 0; i < 40; ++i)
    results.push_back(pool.map_async([i](int x) { return x * i; }, std::vector<int>{1, 2, 3}));
  for (int i = 0; i < 40; ++i)
    CHECK(results[static_cast<std::size_t>(i)].get() == std::vector<int>{i, 2 * i, 3 * i});
}

// ---- apply

TEST_CASE("apply runs in another process, and calls more than there are cells come back each") {
  Pool pool(2);
  const int there = pool.apply([] { return static_cast<int>(::getpid()); });
  CHECK(there != ::getpid());
  std::vector<AsyncResult<int>> results;
  for (int i = 0; i < 20'000; ++i) results.push_back(pool.apply_async(add, i, 1));
  for (int i = 0; i < 20'000; ++i) REQUIRE(results[static_cast<std::size_t>(i)].get() == i + 1);
}

TEST_CASE("large arguments and results take the way through blocks") {
  Pool pool(2);
  const auto xs = numbers(1'000'000);
  for (int round = 0; round < 3; ++round) {
    const auto ys = pool.apply(
        [](std::vector<double> v) {
          v[0] = 7;
          return v;
        },
        xs);
    REQUIRE(ys.size() == xs.size());
    CHECK(ys[0] == 7);
    CHECK(ys.back() == xs.back());
  }
  const std::vector<std::vector<double>> many(5, numbers(50'000));
  const auto sums =
      pool.map([](const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0); }, many);
  CHECK(sums == std::vector<double>(5, 49'999.0 * 25'000));
}

TEST_CASE("a task knows its index, attempt and worker") {
  Pool pool(2);
  CHECK(pool.map([](int) { return this_task::index(); }, std::vector<int>(5)) ==
        std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(pool.apply([] { return this_task::attempt(); }) == 1);
  const int worker = pool.apply([] { return static_cast<int>(this_task::worker()); });
  CHECK(worker >= 0);
  CHECK(worker < 2);
}

// ---- AsyncResult

std::pair<std::int64_t, std::uint64_t> draw(int) { return {this_task::index(), this_task::rng()()}; }
using Draws = std::vector<std::pair<std::int64_t, std::uint64_t>>;

template <class Executor>
Draws streamed(Executor& executor, const std::vector<int>& items, const StreamOptions& options) {
  Draws draws;
  for (const auto& one : executor.imap(draw, items, options)) draws.push_back(one);
  return draws;
}

// Each verb's numbers, in a row.
template <class Executor>
std::vector<Draws> draw_by_every_verb(Executor&& executor) {
  const std::vector<int> items(100);
  std::vector<Draws> all{
      executor.map(draw, items, {.seed = 5}), executor.map(draw, items, {.chunk = 7, .seed = 5}),
      streamed(executor, items, {.seed = 5}), streamed(executor, items, {.chunk = 10, .seed = 5}),
      executor.starmap(draw, std::vector<std::tuple<int>>(100), {.seed = 5})};
  Draws unordered;
  for (const auto& one : executor.imap_unordered(draw, items, {.chunk = 3, .seed = 5}))
    unordered.push_back(one);
  std::ranges::sort(unordered);
  all.push_back(unordered);
  all.push_back(executor.map(draw, items));  // seeds of the executor's own
  all.push_back(executor.map(draw, items));
  all.push_back(streamed(executor, items, {}));
  std::vector<AsyncResult<std::uint64_t>> calls;
  for (int i = 0; i < 20; ++i)
    calls.push_back(executor.with({.seed = 5}).apply_async([] { return this_task::rng()(); }));
  Draws applied;
  for (auto& call : calls) applied.emplace_back(0, call.get());
  all.push_back(applied);
  return all;
}

TEST_CASE("index and random numbers are the item's under every verb, chunk and number of workers") {
  const auto two = draw_by_every_verb(Pool(2));
  for (std::size_t verb = 1; verb < 6; ++verb) CHECK(two[verb] == two[0]);
  std::set<std::uint64_t> distinct;
  for (const std::size_t verb : {0U, 6U, 7U, 8U, 9U}) {
    for (const auto& [index, number] : two[verb]) distinct.insert(number);
  }
  CHECK(distinct.size() == 420);
  for (std::size_t i = 0; i < 100; ++i) REQUIRE(two[3][i].first == static_cast<std::int64_t>(i));
  const auto three = draw_by_every_verb(Pool(3));
  for (const std::size_t verb : {0U, 3U, 9U}) CHECK(three[verb] == two[verb]);
}

TEST_CASE("results report times and who ran them") {
  Pool pool(2);
  auto result = pool.map_async(square, numbers(1000));
  result.wait();
  CHECK(result.ready());
  CHECK(result.progress().done == 1000);
  CHECK(result.wall_time() > Duration(0));
  CHECK(result.serial_time() > Duration(0));
  CHECK(result.elapsed() >= result.wall_time());
  for (const auto& chunk : result.metadata()) {
    CHECK(chunk.started >= chunk.submitted);
    CHECK(chunk.completed >= chunk.started);
    CHECK(chunk.engine >= 0);
  }
}

TEST_CASE("the items of a map can be taken as they arrive, plain and packed") {
  Pool pool(2);
  double expected = 0;
  for (const double y : pool.map_async(square, numbers(2000))) {
    REQUIRE(y == expected * expected);
    ++expected;
  }
  CHECK(expected == 2000);
  std::string all;
  for (const std::string& s :
       pool.map_async([](int i) { return std::to_string(i); }, std::vector<int>{1, 2, 3}))
    all += s;
  CHECK(all == "123");
}

TEST_CASE("continuations and coroutines get the value") {
  Pool pool(2);
  CHECK(pool.apply_async(add, 1, 2).then([](int x) { return x * 10; }).get() == 30);
  const auto pipeline = [](Pool& p) -> AsyncResult<int> {
    const int a = co_await p.apply_async(add, 1, 2);
    const int b = co_await p.apply_async(add, a, 10);
    co_return b;
  };
  CHECK(pipeline(pool).get() == 13);
}

TEST_CASE("a map can be cancelled while it runs") {
  Pool pool(2);
  auto result = pool.map_async(
      [](int) {
        while (!this_task::stop_requested()) std::this_thread::yield();
      },
      std::vector<int>(100));
  CHECK_FALSE(result.wait(std::chrono::milliseconds(1)));
  CHECK(result.cancel());
  CHECK_THROWS_AS(result.get(), Cancelled);
  CHECK(pool.apply(add, 1, 1) == 2);
}

TEST_CASE("an item that returns when it is asked to stop at its deadline has no value") {
  Pool pool(2);
  const std::vector<int> items(3);
  const MapOptions options{.chunk = 3, .deadline = std::chrono::milliseconds(2)};
  const auto until_asked = [] {
    while (!this_task::stop_requested()) {
    }
  };
  for (int i = 0; i < 10; ++i) {
    const auto nothing = [=](int) { until_asked(); };
    CHECK_THROWS_AS(pool.map(nothing, items, options), DeadlineExceeded);
    const auto plain = [=](int x) { return until_asked(), x; };
    CHECK_THROWS_AS(pool.map(plain, items, options), DeadlineExceeded);
    const auto packed = [=](int x) { return until_asked(), std::to_string(x); };
    CHECK_THROWS_AS(pool.map(packed, items, options), DeadlineExceeded);
  }
  CHECK(pool.map([](int x) { return x + 1; }, items, options) == std::vector<int>(3, 1));
}

// ---- streams

struct Counting {  // an endless input that counts what is read from it
  struct Iterator {
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    std::atomic<int>* read;
    int operator*() const { return read->load(); }
    Iterator& operator++() {
      ++*read;
      return *this;
    }
    void operator++(int) { ++*read; }
    bool operator==(std::default_sentinel_t) const { return false; }
  };
  std::atomic<int>* read;
  Iterator begin() const { return {read}; }
  std::default_sentinel_t end() const { return {}; }
};

TEST_CASE("imap over an endless input gives results in order and reads little ahead") {
  Pool pool(2);
  std::atomic<int> read{0};
  int expected = 0;
  for (const int y : pool.imap([](int x) { return x + 1; }, Counting{&read})) {
    REQUIRE(y == ++expected);
    REQUIRE(read - expected < 20);
    if (expected == 5000) break;
  }
}

TEST_CASE("imap_unordered gives every result once, in chunks too") {
  Pool pool(2);
  for (const std::size_t chunk : {1U, 7U}) {
    std::multiset<int> got;
    std::vector<int> xs(1000);
    std::iota(xs.begin(), xs.end(), 0);
    for (const int y : pool.imap_unordered([](int x) { return x; }, xs, {.chunk = chunk})) got.insert(y);
    REQUIRE(got.size() == 1000);
    CHECK(*got.begin() == 0);
    CHECK(std::set<int>(got.begin(), got.end()).size() == 1000);
  }
}

TEST_CASE("a stream goes on behind an item that failed") {
  Pool pool(2);
  auto stream = pool.imap([](int x) { return 10 / x; }, std::vector<int>{1, 2, 5});
  CHECK(stream.next() == 10);
  CHECK(stream.next() == 5);
  CHECK(stream.next() == 2);
  CHECK(stream.next() == std::nullopt);
  auto failing = pool.imap(
      [](int x) {
        if (x == 2) throw std::domain_error("two");
        return x;
      },
      std::vector<int>{1, 2, 3});
  CHECK(failing.next() == 1);
  CHECK_THROWS_AS(static_cast<void>(failing.next()), std::domain_error);
  CHECK(failing.next() == 3);
}

// ---- options and start methods

TEST_CASE("progress is reported and ends at the total") {
  Pool pool(2);
  std::vector<Progress> reports;
  pool.map(square, numbers(1000), {.progress = [&](const Progress& p) { reports.push_back(p); }});
  REQUIRE_FALSE(reports.empty());
  CHECK(reports.back().done == 1000);
  CHECK(reports.back().total == 1000);
}

int loaded = 0;
void load(int value) { loaded = value; }

TEST_CASE("the initializer runs in each worker before its tasks") {
  Pool pool(2, {.initializer = bind(load, 7)});
  CHECK(pool.map([](int) { return loaded; }, std::vector<int>(50), {.chunk = 1}) == std::vector<int>(50, 7));
  CHECK(loaded == 0);
}

TEST_CASE("a worker is replaced after max_tasks_per_worker tasks, not one later") {
  Pool pool(1, {.max_tasks_per_worker = 3});
  std::map<int, int> runs;
  for (const int pid : pool.map([](int) { return static_cast<int>(::getpid()); }, std::vector<int>(10)))
    ++runs[pid];
  for (int i = 0; i < 5; ++i) ++runs[pool.apply([] { return static_cast<int>(::getpid()); })];
  for (const auto& [pid, count] : runs) CHECK(count <= 3);
  CHECK(runs.size() == 5);
}

TEST_CASE("Start::fork sees the caller's memory, captures by reference included") {
  Pool pool(2, {.start = Start::fork});
  std::vector<double> table{1, 2, 3};
  CHECK(pool.map([&table](int i) { return table[static_cast<std::size_t>(i)]; }, std::vector<int>{2, 0}) ==
        std::vector<double>{3, 1});
  table[0] = 100;
  CHECK(pool.map([&table](int i) { return table[static_cast<std::size_t>(i)]; }, std::vector<int>{2, 0}) ==
        std::vector<double>{3, 100});
  const auto owning = [text = std::string("owned")](int i) { return text + std::to_string(i); };
  CHECK(pool.map(snapshot(owning), std::vector<int>{1}) == std::vector<std::string>{"owned1"});
  CHECK(pool.apply([&table] { return table.size(); }) == 3);
}

TEST_CASE("Start::spawn starts the program anew and runs the same functions") {
  Pool pool(2, {.initializer = bind(load, 9), .start = Start::spawn});
  CHECK(pool.map(square, numbers(1000))[999] == 999.0 * 999.0);
  CHECK(pool.apply([] { return loaded; }) == 9);
}

TEST_CASE("a pool inside a task works, however deep the waits") {
  Pool pool(2);
  const auto nested = [](int n) {
    Pool inner(2);
    const auto parts = inner.map([](int x) { return x * x; }, std::vector<int>{n, n + 1});
    return parts[0] + parts[1];
  };
  CHECK(pool.map(nested, std::vector<int>{1, 2, 3, 4}) == std::vector<int>{5, 13, 25, 41});
}

TEST_CASE("an AsyncResult outlives its pool") {
  AsyncResult<std::vector<double>> result;
  {
    Pool pool(2);
    result = pool.map_async(square, numbers(300'000));
  }
  CHECK(result.ready());
  CHECK(result.get()[3] == 9);
}

TEST_CASE("options that cannot be are refused with a sentence") {
  CHECK_THROWS_WITH_AS(Pool(-1), doctest::Contains("a pool of -1 workers"), Error);
  CHECK_THROWS_WITH_AS(Pool(5000), doctest::Contains("1 to 1024"), Error);
  CHECK_THROWS_AS(Pool(1, {.retries = -1}), Error);
  CHECK_THROWS_WITH_AS(Pool(1, {.max_tasks_per_worker = 1, .start = Start::fork}),
                       doctest::Contains("Start::fork"), Error);
}

TEST_CASE("a closed pool takes no more tasks") {
  Pool pool(1);
  auto result = pool.apply_async(add, 1, 2);
  pool.close();
  CHECK(result.get() == 3);
  CHECK_THROWS_WITH_AS(pool.apply(add, 1, 2), doctest::Contains("closed"), PoolBroken);
}

TEST_CASE("a fork of the program cannot use its pool, and does it no harm") {
  Pool pool(2);
  const Semaphore go(0);
  auto pending = pool.apply_async(
      [](const Semaphore& permit) {
        permit.acquire();
        return 5;
      },
      go);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    int refused = 0;
    try {
      pool.apply(square, 2.0);
    } catch (const Error& error) {
      refused += std::string(error.what()).find("is a fork of the one") != std::string::npos ? 1 : 0;
    }
    try {
      static_cast<void>(pending.get());
    } catch (const Error&) {
      ++refused;
    }
    pending.cancel();
    pool.close();
    ::_exit(refused);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 2);
  go.release();
  CHECK(pending.get() == 5);
  CHECK(pool.apply(square, 3.0) == 9);
}

TEST_CASE("a chunk larger than the range is one chunk") {
  Pool pool(2);
  const std::vector<double> xs{1, 2, 3};
  for (const std::size_t chunk : {std::size_t{4}, SIZE_MAX - 1, SIZE_MAX})
    CHECK(pool.map(square, xs, {.chunk = chunk}) == std::vector<double>{1, 4, 9});
}

void busy_for(int microseconds) {
  const Deadline end{std::chrono::microseconds(microseconds)};
  while (!end.passed()) {
  }
}

TEST_CASE("a kill for the sake of one task never fails the next") {
  Pool pool(1);
  for (int i = 0; i < 200; ++i) {
    auto first = pool.apply_async(busy_for, 100);
    auto next = pool.apply_async(busy_for, 200);
    busy_for(60 + i % 100);
    const bool cancelled = first.cancel({.kill = true});
    REQUIRE_NOTHROW(next.get());
    if (cancelled) {
      CHECK_THROWS_AS(first.get(), Cancelled);
    } else {
      CHECK_NOTHROW(first.get());
    }
  }
  for (int i = 0; i < 100; ++i) {
    auto first =
        pool.with({.deadline = std::chrono::milliseconds(1)}).apply_async(busy_for, 1000 + i % 50 * 8);
    auto next = pool.apply_async(busy_for, 200);
    REQUIRE_NOTHROW(next.get());
  }
}

TEST_CASE("leaving a stream of a function that returns nothing drops what has not started") {
  Pool pool(1);
  const test::FlagFile flag;
  {
    int seen = 0;
    const auto mark = [](const test::Flag& f) {
      f.raise();
      busy_for(20'000);
    };
    for (auto stream = pool.imap(mark, std::vector<test::Flag>(40, flag.flag())); auto&& nothing : stream) {
      static_cast<void>(nothing);
      if (++seen == 2) break;
    }
  }
  pool.close();
  CHECK(flag->count() < 20);
}

}  // namespace
}  // namespace manyhands
