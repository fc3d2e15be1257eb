#include "manyhands/task/async_result.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace manyhands {
namespace {

template <class T>
struct Manual {
  std::shared_ptr<task::LocalState<T>> state = std::make_shared<task::LocalState<T>>();
  AsyncResult<T> result{state};
};

TEST_CASE("get gives the value, again and again, and moves it out of a temporary") {
  Manual<std::string> m;
  m.state->set_value("hands");
  CHECK(m.result.get() == "hands");
  CHECK(m.result.get() == "hands");
  CHECK(std::move(m.result).get() == "hands");
}

TEST_CASE("get with a timeout says what was done and leaves the task alone") {
  Manual<int> m;
  CHECK_THROWS_WITH_AS(m.result.get(Duration(0)), "no result within 0 s; the task goes on", Timeout);
  m.state->set_value(1);
  CHECK(m.result.get(Duration(0)) == 1);
}

TEST_CASE("successful tells the outcome, and is an error before there is one") {
  Manual<int> m;
  CHECK_THROWS_AS(static_cast<void>(m.result.successful()), Error);
  m.state->set_error(std::make_exception_ptr(std::runtime_error("no")));
  CHECK_FALSE(m.result.successful());
}

TEST_CASE("an empty result is an error, not a crash") {
  AsyncResult<int> none;
  CHECK_FALSE(none.valid());
  CHECK_THROWS_WITH_AS(none.get(), doctest::Contains("refers to no task"), Error);
}

TEST_CASE("then chains values, and passes errors by") {
  Manual<int> m;
  auto text = m.result.then([](int x) { return x + 1; }).then([](int x) { return std::to_string(x); });
  m.state->set_value(41);
  CHECK(text.get() == "42");

  Manual<int> bad;
  int called = 0;
  std::string seen;
  auto failed = bad.result.then([&](int) { ++called; },
                                [&](const std::exception_ptr& e) {
                                  try {
                                    std::rethrow_exception(e);
                                  } catch (const std::exception& error) {
                                    seen = error.what();
                                  }
                                });
  bad.state->set_error(std::make_exception_ptr(std::runtime_error("broken")));
  CHECK_THROWS_WITH_AS(failed.get(), "broken", std::runtime_error);
  CHECK(called == 0);
  CHECK(seen == "broken");
}

TEST_CASE("an exception of the continuation is its result's") {
  Manual<void> m;
  auto result = m.result.then([]() -> int { throw std::domain_error("then"); });
  m.state->set_value({});
  CHECK_THROWS_AS(result.get(), std::domain_error);
}

AsyncResult<int> sum_of(AsyncResult<int> a, AsyncResult<int> b) { co_return co_await a + co_await b; }
AsyncResult<void> fails(AsyncResult<int> a) {
  co_await a;
  throw std::runtime_error("after the wait");
}

TEST_CASE("a coroutine waits for results and is one") {
  Manual<int> a;
  Manual<int> b;
  auto sum = sum_of(a.result, b.result);
  CHECK_FALSE(sum.ready());
  b.state->set_value(2);
  a.state->set_value(40);
  CHECK(sum.get() == 42);
  CHECK_THROWS_WITH_AS(fails(a.result).get(), "after the wait", std::runtime_error);
}

AsyncResult<std::size_t> twice(AsyncResult<std::string>& text) {
  const std::size_t first = (co_await text).size();
  co_return first + (co_await text).size();
}

TEST_CASE("a result that is awaited by name keeps its value") {
  Manual<std::string> m;
  auto sum = twice(m.result);
  m.state->set_value(std::string(100, 'x'));
  CHECK(sum.get() == 200);
  CHECK(m.result.get().size() == 100);
}

TEST_CASE("the vector that one task returned can be iterated") {
  Manual<std::vector<int>> m;
  m.state->set_value({1, 2, 3});
  int sum = 0;
  for (const int x : m.result) sum += x;
  CHECK(sum == 6);
}

TEST_CASE("times add up over tasks") {
  const auto at = [](int ms) { return TimePoint(std::chrono::milliseconds(ms)); };
  const std::vector<TaskMetadata> tasks{{.submitted = at(0), .started = at(10), .completed = at(30)},
                                        {.submitted = at(5), .started = at(10), .completed = at(50)},
                                        {.submitted = at(5)}};
  CHECK(task::serial_time(tasks) == std::chrono::milliseconds(60));
  CHECK(task::wall_time(tasks) == std::chrono::milliseconds(50));
}

}  // namespace
}  // namespace manyhands
