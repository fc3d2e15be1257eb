#pragma once
// Engine: explores a program within limits, and keeps one schedule for each way in which it ends.
//
// First all schedules without preemption, then those with one, then with two, so that what is shown for an
// outcome is as short as can be and the likely errors are found even in a program with too many schedules;
// then, if preemptions are not limited, all schedules, by partial order reduction.
//
// One thread; several threads may explore at the same time.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/explore/schedule.hpp"

namespace manyhands {

// How a schedule of an explored program ends.
enum class OutcomeKind {
  value,       // the body returned
  exception,   // an exception left the body
  deadlock,    // processes wait, and none can go on
  step_limit,  // the schedule was cut off after max_steps steps
};
const char* name_of(OutcomeKind kind) noexcept;

// What kept an exploration from seeing all schedules.
enum class ExploreLimit {
  none,
  schedules,    // max_schedules
  steps,        // max_steps: some schedules were cut off
  time,         // time
  preemptions,  // max_preemptions
};
const char* name_of(ExploreLimit limit) noexcept;

inline constexpr std::uint32_t unbounded = UINT32_MAX;

struct ExploreOptions {
  std::uint64_t max_schedules = 1'000'000;    // runs of the program
  std::uint32_t max_preemptions = unbounded;  // times that a process is interrupted that could go on
  std::size_t max_steps = 10'000;             // of each schedule
  TimeLimit time = std::chrono::seconds(60);
  std::size_t stack_bytes = std::size_t{256} * 1024;  // of each process
};

namespace exploring {

enum class Reduction;

// What is explored, without its type.
class Program {
 public:
  virtual void run() = 0;              // on the main fiber; keeps what the body returns
  virtual std::size_t classify() = 0;  // the number of that value among all different ones; forgets it
  virtual void forget() noexcept = 0;  // forgets what the body returned, if it did
  virtual std::string text_of(std::size_t value) const = 0;

 protected:
  ~Program() = default;
};

struct FoundOutcome {
  OutcomeKind kind = OutcomeKind::value;
  std::size_t value = 0;              // if it is one
  std::string text;                   // of the exception or deadlock; of the value: filled in at the end
  std::vector<std::string> failures;  // exceptions that left other processes
  std::uint64_t count = 0;            // schedules
  Schedule schedule;
};

struct Found {
  std::vector<FoundOutcome> outcomes;
  std::uint64_t schedules = 0;  // different ones
  // Of the program, also those given up since they turned out to be like earlier ones.
  std::uint64_t runs = 0;
  std::uint64_t steps = 0;
  Duration elapsed{};
  ExploreLimit limit = ExploreLimit::none;
  std::optional<std::uint32_t> all_up_to;  // all schedules with at most so many preemptions were seen
};

struct Method {
  Reduction reduction;
  bool bounded_first;  // the passes with few preemptions
};

Found explore(Program& program, const ExploreOptions& options);
// For tests of the method itself.
Found explore(Program& program, const ExploreOptions& options, const Method& method);

// Runs the program once, in the order of `turns`, then without preemptions; the program keeps its value.
// Throws what the body threw, DeadlockError, and Error if the program cannot follow.
void replay(Program& program, const std::vector<std::uint32_t>& turns, const ExploreOptions& options);

}  // namespace exploring
}  // namespace manyhands
