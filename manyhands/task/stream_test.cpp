#include "manyhands/task/stream.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

namespace manyhands::task {
namespace {

// Calls whose outcome is set when they are submitted, from a script; `open` ones stay without.
struct Script {
  enum class Outcome { value, error, open };
  std::vector<Outcome> outcomes;
  std::vector<std::shared_ptr<LocalState<int>>> states;

  auto submit() {
    return [this]() -> std::optional<AsyncResult<int>> {
      const std::size_t i = states.size();
      if (i == outcomes.size()) return std::nullopt;
      states.push_back(std::make_shared<LocalState<int>>());
      if (outcomes[i] == Outcome::value) states[i]->set_value(static_cast<int>(i));
      if (outcomes[i] == Outcome::error)
        states[i]->set_error(std::make_exception_ptr(std::domain_error("item")));
      return AsyncResult<int>(states[i]);
    };
  }
  Stream<int> stream(std::size_t window, StreamOrder order, ProgressFunction report = {}) {
    auto emit = [](int value, std::deque<int>& out) { out.push_back(value); };
    using Source = WindowSource<int, int, decltype(submit()), decltype(emit)>;
    return Stream<int>(std::make_unique<Source>(submit(), emit, window, order, std::move(report)));
  }
};
using Outcome = Script::Outcome;

TEST_CASE("nothing is submitted before the first result is asked for, then at most the window") {
  Script script{std::vector(10, Outcome::value), {}};
  auto stream = script.stream(3, StreamOrder::input);
  CHECK(script.states.empty());
  CHECK(stream.next() == 0);
  CHECK(script.states.size() == 3);
  CHECK(stream.next() == 1);
  CHECK(script.states.size() == 4);
}

TEST_CASE("in the order of completion an open call holds up no finished one") {
  Script script{{Outcome::open, Outcome::value, Outcome::value}, {}};
  auto stream = script.stream(2, StreamOrder::completion);
  CHECK(stream.next() == 1);
  CHECK(stream.next() == 2);
  script.states[0]->set_value(7);
  CHECK(stream.next() == 7);
  CHECK(stream.next() == std::nullopt);
}

TEST_CASE("an error is thrown where it stands, and the stream goes on behind it") {
  Script script{{Outcome::value, Outcome::error, Outcome::value}, {}};
  auto stream = script.stream(2, StreamOrder::input);
  CHECK(stream.next() == 0);
  CHECK_THROWS_AS(static_cast<void>(stream.next()), std::domain_error);
  CHECK(stream.next() == 2);
  CHECK(stream.next() == std::nullopt);
  CHECK(stream.next() == std::nullopt);
}

TEST_CASE("a stream is a range, and progress knows the total at the end") {
  Script script{std::vector(4, Outcome::value), {}};
  Progress last;
  auto stream = script.stream(2, StreamOrder::input, [&](const Progress& p) { last = p; });
  int sum = 0;
  for (const int x : stream) sum += x;
  CHECK(sum == 6);
  CHECK(last.done == 4);
  CHECK(last.total == 4);
}

}  // namespace
}  // namespace manyhands::task
