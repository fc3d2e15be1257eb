#include "manyhands/explore/engine.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "manyhands/base/error.hpp"
#include "manyhands/explore/search.hpp"
#include "manyhands/explore/world.hpp"
#include "manyhands/shm/lock_errors.hpp"

namespace manyhands {

const char* name_of(OutcomeKind kind) noexcept {
  static constexpr const char* names[] = {"value", "exception", "deadlock", "step limit"};
  return names[static_cast<std::size_t>(kind)];
}

const char* name_of(ExploreLimit limit) noexcept {
  static constexpr const char* names[] = {"none", "max_schedules", "max_steps", "time", "max_preemptions"};
  return names[static_cast<std::size_t>(limit)];
}

namespace exploring {
namespace {

constexpr std::uint32_t first_preemptions = 2;  // passes 0, 1, 2 before all schedules are tried,
constexpr std::uint64_t first_runs = 1000;      // each with at most so many runs,
constexpr int first_share = 20;                 // and this part of the limits

void refuse_nesting() {
  if (shm::current_scheduler() != nullptr)
    throw Error(
        "mh::explore was called by a program that is being explored itself; explore the outer one only");
}

class SearchChooser final : public Chooser {
 public:
  explicit SearchChooser(Search& search) : search_(search) {}
  std::optional<Search::Choice> choose(const State& state, const Trace& trace) override {
    return search_.choose(state, trace);
  }
  void stop(const State& state, const Trace& trace) override { search_.stop(state, trace); }

 private:
  Search& search_;
};

class Follower final : public Chooser {
 public:
  explicit Follower(const std::vector<std::uint32_t>& turns) : turns_(turns) {}
  void stop(const State&, const Trace&) override {}
  std::optional<Search::Choice> choose(const State& state, const Trace&) override {
    FiberNumber fiber = max_fibers;
    if (next_ < turns_.size()) {
      fiber = turns_[next_++];
      if (fiber >= max_fibers || (state.enabled & only(fiber)) == 0) {
        throw Error(fmt::format(
            "mh::replay: at step {} the schedule wants process {} to go on, which {}: the schedule is of "
            "another program, or "
            "the program does not do the same each time it is run",
            next_, fiber, fiber < max_fibers && (state.live & only(fiber)) != 0 ? "waits" : "is not there"));
      }
    } else {
      fiber = preferred(state, state.enabled);
    }
    const FiberNumber willing = willing_fiber(state);
    return Search::Choice{fiber, willing != max_fibers && willing != fiber};
  }

 private:
  const std::vector<std::uint32_t>& turns_;
  std::size_t next_ = 0;
};

// Whether two exceptions are the same. Those of manyhands name objects, processes and times by numbers, which
// are others in each run.
bool same_exception(const std::string& a, const std::string& b) {
  if (a == b) return true;
  if (a.find("manyhands::") == std::string::npos) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      while (i < a.size() && is_digit(a[i])) ++i;
      while (j < b.size() && is_digit(b[j])) ++j;
    } else if (a[i++] != b[j++]) {
      return false;
    }
  }
  return i == a.size() && j == b.size();
}

bool same_outcome(const FoundOutcome& a, const FoundOutcome& b) {
  if (a.kind != b.kind || a.value != b.value) return false;
  if (a.kind == OutcomeKind::exception ? !same_exception(a.text, b.text) : a.text != b.text) return false;
  return std::is_permutation(a.failures.begin(), a.failures.end(), b.failures.begin(), b.failures.end(),
                             same_exception);
}

void run_main(void* program) { static_cast<Program*>(program)->run(); }

class Engine {
 public:
  Engine(Program& program, const ExploreOptions& options)
      : program_(program),
        options_(options),
        started_ns_(now_ns()),
        deadline_(options.time),
        world_(options.stack_bytes, options.max_steps) {}

  Found run(const Method& method) {
    bool complete = false;
    if (options_.max_preemptions == unbounded) {
      if (method.bounded_first) first_passes();
      complete = pass({.reduction = method.reduction}, options_.max_schedules, deadline_);
    } else {
      complete = bounded_passes();
    }
    for (FoundOutcome& outcome : found_.outcomes) {
      if (outcome.count == 0) outcome.count = std::exchange(earlier_counts_[index_of(outcome)], 0);
    }
    if (complete) {
      found_.limit = limit_;
      if (limit_ == ExploreLimit::none && !bounded_) found_.all_up_to = std::nullopt;
    } else {
      found_.limit = found_.runs >= options_.max_schedules ? ExploreLimit::schedules : ExploreLimit::time;
    }
    found_.elapsed = Duration(now_ns() - started_ns_);
    return std::move(found_);
  }

 private:
  // Few preemptions first, as far as that is cheap.
  void first_passes() {
    for (std::uint32_t most = 0; most <= first_preemptions; ++most) {
      const std::uint64_t runs = found_.runs + std::min(first_runs, options_.max_schedules / first_share);
      const Deadline deadline(Duration(options_.time) / first_share);
      if (!pass({.reduction = Reduction::none, .max_preemptions = most}, runs, deadline)) return;
      if (limit_ == ExploreLimit::none) found_.all_up_to = most;
      if (!bounded_) return;
    }
  }

  bool bounded_passes() {
    for (std::uint32_t most = 0;; ++most) {
      if (!pass({.reduction = Reduction::none, .max_preemptions = most}, options_.max_schedules, deadline_))
        return false;
      if (limit_ == ExploreLimit::none) found_.all_up_to = most;
      if (!bounded_) return true;
      if (most == options_.max_preemptions) {
        if (limit_ == ExploreLimit::none) limit_ = ExploreLimit::preemptions;
        return true;
      }
    }
  }

  // Explores with these options; false if a limit came first. Counts schedules and outcomes anew.
  bool pass(const SearchOptions& how, std::uint64_t max_runs, const Deadline& deadline) {
    earlier_counts_.resize(found_.outcomes.size());
    for (std::size_t i = 0; i < found_.outcomes.size(); ++i)
      if (const auto count = std::exchange(found_.outcomes[i].count, 0); count != 0)
        earlier_counts_[i] = count;
    found_.schedules = 0;
    limit_ = ExploreLimit::none;
    Search search(how);
    SearchChooser chooser(search);
    do {
      if (found_.runs >= max_runs || deadline.passed() || deadline_.passed()) return false;
      ++found_.runs;
      const RunEnd end = world_.run(chooser, &run_main, &program_);
      found_.steps += world_.trace().depth();
      note(end);
    } while (search.next_run());
    bounded_ = search.was_bounded();
    return true;
  }

  void note(RunEnd end) {
    if (end == RunEnd::unwanted) return program_.forget();
    ++found_.schedules;
    FoundOutcome seen;
    switch (end) {
      case RunEnd::deadlock:
        seen.kind = OutcomeKind::deadlock;
        seen.text = world_.deadlock();
        break;
      case RunEnd::step_limit:
        limit_ = ExploreLimit::steps;
        seen.kind = OutcomeKind::step_limit;
        seen.text = fmt::format("more than {} steps", options_.max_steps);
        break;
      default:
        if (world_.main_error() != nullptr) {
          seen.kind = OutcomeKind::exception;
          seen.text = describe_exception(world_.main_error());
        }
    }
    if (end == RunEnd::finished && world_.main_returned()) {
      seen.value = program_.classify();
    } else {
      program_.forget();
    }
    seen.failures = world_.failures();
    auto known = std::find_if(found_.outcomes.begin(), found_.outcomes.end(),
                              [&](const FoundOutcome& outcome) { return same_outcome(outcome, seen); });
    if (known == found_.outcomes.end()) {
      seen.schedule = world_.schedule();
      found_.outcomes.push_back(std::move(seen));
      earlier_counts_.push_back(0);
      known = std::prev(found_.outcomes.end());
    } else if (world_.preemptions() < known->schedule.preemptions() ||
               (world_.preemptions() == known->schedule.preemptions() &&
                world_.trace().depth() < known->schedule.steps().size())) {
      known->schedule = world_.schedule();
    }
    ++known->count;
  }

  std::size_t index_of(const FoundOutcome& outcome) const {
    return static_cast<std::size_t>(&outcome - found_.outcomes.data());
  }

  Program& program_;
  const ExploreOptions& options_;
  std::int64_t started_ns_;
  Deadline deadline_;
  World world_;
  Found found_;
  std::vector<std::uint64_t> earlier_counts_;  // of each outcome, in passes before the last
  ExploreLimit limit_ = ExploreLimit::none;    // of the last pass: none or steps
  bool bounded_ = false;                       // the last pass left schedules out that have more preemptions
};

}  // namespace

Found explore(Program& program, const ExploreOptions& options) {
  return explore(program, options, {.reduction = Reduction::partial_order, .bounded_first = true});
}

Found explore(Program& program, const ExploreOptions& options, const Method& method) {
  refuse_nesting();
  Found found = Engine(program, options).run(method);
  for (FoundOutcome& outcome : found.outcomes)
    if (outcome.kind == OutcomeKind::value) outcome.text = program.text_of(outcome.value);
  return found;
}

void replay(Program& program, const std::vector<std::uint32_t>& turns, const ExploreOptions& options) {
  refuse_nesting();
  World world(options.stack_bytes, options.max_steps);
  Follower follower(turns);
  const RunEnd end = world.run(follower, &run_main, &program);
  if (end == RunEnd::deadlock) throw DeadlockError(fmt::format("deadlock: {}", world.deadlock()));
  if (end == RunEnd::step_limit)
    throw Error(fmt::format("mh::replay: the program did not end within {} steps", options.max_steps));
  if (world.main_error() != nullptr) std::rethrow_exception(world.main_error());
}

}  // namespace exploring
}  // namespace manyhands
