#pragma once
// mh::explore: runs a small program in every order that its processes' steps can come in, and says how it can
// end.
//
//   auto report = mh::explore([] {
//     mh::Value<double> arg(0.0);
//     mh::Process mult{[](mh::Value<double> a) { a *= 10; }, arg};
//     mh::Process add{[](mh::Value<double> a) { a += 10; }, arg};
//     mult.join();
//     add.join();
//     return arg.get();
//   });
//   std::cout << report;  // 0, 10 and 100, with a schedule that leads to each
//
// The program is written with the same types as for real. Here its processes are fibers of the calling
// thread, and a step is an operation of Value, Lock, RLock, Semaphore, Event, Condition, Barrier, Queue, Pipe
// or Process.
//
// What it does not see:
// - orders of anything but these operations. Between two of them a process is alone; threads that the program
//  starts, and processes that it forks, are not scheduled;
// - effects of weak memory: the operations come one after the other (sequential consistency);
// - memory that real processes would not share, such as globals: the fibers do share it;
// - time: a wait with a time limit may time out at any moment, and mh::sleep_for does not sleep.
//
// The program must do the same whenever its steps come in the same order: no clock, no random numbers but
// from a generator that it seeds itself. Otherwise explore() throws Error, which names both steps. The steps
// of a schedule are bounded: loops that wait for something by asking again and again end as the outcome
// step_limit.
//
// How: search.hpp. docs/explore.md is the guide.

#include <algorithm>
#include <concepts>
#include <deque>
#include <functional>
#include <iosfwd>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "manyhands/explore/engine.hpp"
#include "manyhands/explore/schedule.hpp"
#include "manyhands/explore/text.hpp"

namespace manyhands {

// One way in which the program ends.
struct OutcomeBase {
  OutcomeKind kind = OutcomeKind::value;
  // The value; the exception's type and message; for a deadlock who waits for what, held by whom, a line
  // each.
  std::string text;
  // Exceptions that left processes other than the main one: "Process-1 threw std::runtime_error: text".
  std::vector<std::string> failures;
  std::uint64_t count = 0;  // of schedules that end so
  Schedule schedule;        // the one of these with the fewest preemptions that was seen
};

template <class T>
struct ExploreOutcome : OutcomeBase {
  std::optional<T> value;  // if that is its kind; std::monostate for a body that returns nothing
};

namespace exploring {
void print(std::ostream& out, const Found& summary, std::span<const OutcomeBase* const> outcomes,
           const ExploreOptions& options);

template <class F>
using ValueOf = std::conditional_t<std::is_void_v<std::invoke_result_t<const F&>>, std::monostate,
                                   std::decay_t<std::invoke_result_t<const F&>>>;

template <class F>
class TypedProgram final : public Program {
 public:
  using Value = ValueOf<F>;

  explicit TypedProgram(const F& body) : body_(body) {}

  void run() override {
    if constexpr (std::is_void_v<std::invoke_result_t<const F&>>) {
      std::invoke(body_);
      result_.emplace();
    } else {
      result_.emplace(std::invoke(body_));
    }
  }
  std::size_t classify() override {
    Value value = take();
    for (std::size_t i = 0; i < values_.size(); ++i)
      if (same_value(values_[i], value)) return i;
    values_.push_back(std::move(value));
    return values_.size() - 1;
  }
  void forget() noexcept override { result_.reset(); }
  std::string text_of(std::size_t value) const override { return exploring::text_of(values_[value]); }

  Value take() {
    Value value = std::move(*result_);
    result_.reset();
    return value;
  }
  std::deque<Value>& values() noexcept { return values_; }

 private:
  const F& body_;
  std::optional<Value> result_;
  std::deque<Value> values_;  // not a vector: T may be bool
};
}  // namespace exploring

// What mh::explore found. A value; holds the body, for replay().
template <class T>
class ExploreReport {
 public:
  using Outcome = ExploreOutcome<T>;

  // Values first, from the smallest if they have an order; then exceptions, deadlocks, and what was cut off.
  const std::vector<Outcome>& outcomes() const noexcept { return outcomes_; }
  std::vector<Outcome> deadlocks() const { return of_kind(OutcomeKind::deadlock); }
  std::vector<Outcome> exceptions() const { return of_kind(OutcomeKind::exception); }
  // The values of all outcomes that have one, each once.
  std::vector<T> values() const {
    std::vector<T> found;
    for (const Outcome& outcome : outcomes_) {
      const auto is_same = [&](const T& other) { return exploring::same_value<T>(other, *outcome.value); };
      if (outcome.value.has_value() && std::none_of(found.begin(), found.end(), is_same))
        found.push_back(*outcome.value);
    }
    return found;
  }

  // Whether these are all outcomes that there are; else limit() says what was in the way.
  bool exhaustive() const noexcept { return summary_.limit == ExploreLimit::none; }
  ExploreLimit limit() const noexcept { return summary_.limit; }
  // All schedules with at most so many preemptions were seen; nullopt if not even those without any. More may
  // have been.
  std::optional<std::uint32_t> all_up_to_preemptions() const noexcept { return summary_.all_up_to; }

  // Schedules that differ in more than the order of steps that do not matter to each other.
  std::uint64_t schedules() const noexcept { return summary_.schedules; }
  // How often the program ran for that, wholly or in part.
  std::uint64_t runs() const noexcept { return summary_.runs; }
  std::uint64_t steps() const noexcept { return summary_.steps; }
  Duration elapsed() const noexcept { return summary_.elapsed; }

  // Runs the program once more along outcomes()[index].schedule, to be watched in a debugger. Returns the
  // value or throws the exception; a deadlock is a DeadlockError. Throws std::out_of_range.
  auto replay(std::size_t index) const { return replay_(outcomes_.at(index).schedule.to_string()); }

  // What was found, with the schedules; of much, the beginning.
  friend std::ostream& operator<<(std::ostream& out, const ExploreReport& report) {
    std::vector<const OutcomeBase*> outcomes;
    for (const Outcome& outcome : report.outcomes_) outcomes.push_back(&outcome);
    exploring::print(out, report.summary_, outcomes, report.options_);
    return out;
  }

 private:
  template <class F>
    requires std::invocable<const F&>
  friend auto explore(F body, const ExploreOptions& options);

  std::vector<Outcome> of_kind(OutcomeKind kind) const {
    std::vector<Outcome> found;
    for (const Outcome& outcome : outcomes_)
      if (outcome.kind == kind) found.push_back(outcome);
    return found;
  }

  exploring::Found summary_;  // its outcomes are in outcomes_
  std::vector<Outcome> outcomes_;
  ExploreOptions options_;
  std::function<T(std::string_view schedule)> replay_;
};

// Runs body() along the turns in `schedule` (Schedule::to_string), and where they end without preemptions.
// Returns what it returns and throws what it throws; DeadlockError at a deadlock; Error if it cannot follow,
// or does not end within max_steps.
template <class F>
  requires std::invocable<const F&>
exploring::ValueOf<F> replay(const F& body, std::string_view schedule, const ExploreOptions& options = {}) {
  exploring::TypedProgram<F> program(body);
  exploring::replay(program, Schedule::parse(schedule), options);
  return program.take();
}

// Blocks until all was seen or a limit is reached. `body` is called often, so it must not change what it
// captured. Throws Error if the program does not do the same each time, if it cannot be ended where it
// deadlocks, and if it is called by an explored program. Options: engine.hpp.
template <class F>
  requires std::invocable<const F&>
auto explore(F body, const ExploreOptions& options = {}) {
  using T = exploring::ValueOf<F>;
  static_assert(exploring::has_text<T>(),
                "what the explored function returns is shown in the report: give it an operator<<, or return "
                "a plain struct, "
                "number, string, or a container of such");
  exploring::TypedProgram<F> program(body);
  ExploreReport<T> report;
  report.summary_ = exploring::explore(program, options);
  report.options_ = options;
  auto& all = report.summary_.outcomes;
  const auto comes_before = [&](std::size_t i, std::size_t j) {
    if (all[i].kind != all[j].kind) return all[i].kind < all[j].kind;
    if constexpr (std::totally_ordered<T>) {
      if (all[i].kind == OutcomeKind::value && all[i].value != all[j].value) {
        const T& a = program.values()[all[i].value];
        const T& b = program.values()[all[j].value];
        const bool in_order = exploring::equals_itself(a);
        if (in_order != exploring::equals_itself(b)) return in_order;  // NaN and the like last
        if (a < b || b < a) return a < b;
      }
    }
    return i < j;
  };
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), comes_before);
  for (const std::size_t i : order) {
    ExploreOutcome<T> outcome;
    outcome.kind = all[i].kind;
    outcome.text = std::move(all[i].text);
    outcome.failures = std::move(all[i].failures);
    outcome.count = all[i].count;
    outcome.schedule = std::move(all[i].schedule);
    if (all[i].kind == OutcomeKind::value) outcome.value = program.values()[all[i].value];
    report.outcomes_.push_back(std::move(outcome));
  }
  all.clear();
  report.replay_ = [body = std::make_shared<const F>(std::move(body)),
                    options](std::string_view schedule) -> T {
    return manyhands::replay(*body, schedule, options);
  };
  return report;
}

}  // namespace manyhands
