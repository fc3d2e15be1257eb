// The reductions against the truth: random small programs, explored with and without them, end in the same
// ways.
#include "manyhands/explore/search.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/explore/explore.hpp"
#include "manyhands/process/process.hpp"
#include "manyhands/shm/event.hpp"
#include "manyhands/shm/lock.hpp"
#include "manyhands/shm/semaphore.hpp"
#include "manyhands/shm/value.hpp"

namespace manyhands::exploring {
namespace {

using namespace std::chrono_literals;

enum class Do {
  load,
  store,
  add,
  update,
  lock,
  unlock,
  try_lock,
  lock_for,
  set,
  clear,
  wait,
  wait_for,
  acquire,
  release,
  look_for_end,
  join_for,
  spawn,
  rest,
  count_,
  lock_pair = count_,  // two of the three locks in one step; only in make_locking_program()
};
struct Instruction {
  Do what;
  unsigned which;  // of two objects of a kind
};
using Code = std::vector<Instruction>;

struct RandomProgram {
  std::vector<Code> codes;  // one for each process
  Code main;                // between their start and their joins
  WhenAbandoned when_abandoned;
  int permits;

  std::string text() const {
    std::string text = "permits " + std::to_string(permits) + ", abandoned " +
                       std::to_string(static_cast<int>(when_abandoned));
    const auto add = [&](const Code& code) {
      text += "\n ";
      for (const auto& [what, which] : code)
        text += " " + std::to_string(static_cast<int>(what)) + "." + std::to_string(which);
    };
    for (const Code& code : codes) add(code);
    add(main);
    return text;
  }
};

RandomProgram make_program(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  // Each program draws from a few instructions only, so that its processes meet.
  std::vector<Do> choice;
  for (unsigned i = 0; i < 4; ++i)
    choice.push_back(static_cast<Do>(below(static_cast<unsigned>(Do::count_))));
  const auto make_code = [&](unsigned most) {
    Code code;
    for (unsigned i = 1 + below(most); i > 0; --i) code.push_back({choice[below(4)], below(2)});
    return code;
  };
  RandomProgram program;
  const unsigned processes = 2 + below(2);
  for (unsigned i = 0; i < processes; ++i) program.codes.push_back(make_code(processes == 2 ? 4 : 2));
  if (below(2) == 0) program.main = make_code(2);
  program.when_abandoned = static_cast<WhenAbandoned>(below(3));
  program.permits = static_cast<int>(below(3));
  return program;
}

// About several locks in one step.
RandomProgram make_locking_program(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  const auto make_code = [&](unsigned most) {
    constexpr Do choice[] = {Do::lock_pair, Do::lock_pair, Do::lock, Do::unlock,
                             Do::unlock,    Do::try_lock,  Do::add,  Do::lock_for};
    Code code;
    for (unsigned i = 1 + below(most); i > 0; --i) {
      const Do what = choice[below(8)];
      code.push_back({what, what == Do::add ? 0 : below(3)});
    }
    return code;
  };
  RandomProgram program;
  const unsigned processes = 2 + below(3);
  for (unsigned i = 0; i < processes; ++i)
    program.codes.push_back(make_code(processes == 2 ? 5 : processes == 3 ? 3 : 2));
  program.when_abandoned = static_cast<WhenAbandoned>(below(3));
  program.permits = 0;
  return program;
}

struct Shared {
  explicit Shared(const RandomProgram& code)
      : program(&code),
        locks{Lock{{.when_abandoned = code.when_abandoned}}, Lock{{.when_abandoned = code.when_abandoned}},
              Lock{{.when_abandoned = code.when_abandoned}}},
        semaphores{Semaphore(code.permits), Semaphore(code.permits)} {}
  const RandomProgram* program;
  Value<int> values[2];
  Lock locks[3];
  Event events[2];
  Semaphore semaphores[2];
  std::map<std::string, std::string> seen;  // by each process; not shared between them
  std::vector<Process*> processes;          // those of the main one
};

void run_code(Shared& shared, const std::string& name, const Code& code);

void run_instruction(Shared& shared, const std::string& name, std::string& seen,
                     const Instruction& instruction, int& local) {
  const auto& [what, which] = instruction;
  const auto note = [&](int result) { seen += std::to_string(result) + " "; };
  switch (what) {
    case Do::load:
      local = shared.values[which].get();
      return note(local);
    case Do::store:
      return shared.values[which].set(local * 2 + 1);
    case Do::add:
      shared.values[which] += 1;
      return;
    case Do::update:
      shared.values[which].update([](int x) { return x * 2 + 1; });
      return;
    case Do::lock:
      return shared.locks[which].lock();
    case Do::unlock:
      return shared.locks[which].unlock();
    case Do::try_lock:
      return note(shared.locks[which].try_lock());
    case Do::lock_for:
      return note(shared.locks[which].try_lock_for(1s));
    case Do::set:
      return shared.events[which].set();
    case Do::clear:
      return shared.events[which].clear();
    case Do::wait:
      shared.events[which].wait();
      return;
    case Do::wait_for:
      return note(shared.events[which].wait(1s));
    case Do::acquire:
      shared.semaphores[which].acquire();
      return;
    case Do::release:
      return shared.semaphores[which].release();
    case Do::look_for_end:
      if (name == "main" && which < shared.processes.size()) note(shared.processes[which]->is_alive());
      return;
    case Do::join_for:
      if (name == "main" && which < shared.processes.size()) note(shared.processes[which]->join(1s));
      return;
    case Do::spawn: {
      const std::string child = name + "c";
      static const Code code = {{Do::add, 0}, {Do::load, 1}};
      const Process p{{.name = child}, [&shared, &child] { run_code(shared, child, code); }};
      return;
    }
    case Do::rest:
      return note(shared.locks[which].held_by_this_thread());
    case Do::lock_pair:
      return std::lock(shared.locks[which], shared.locks[(which + 1) % 3]);
    default:
      return;
  }
}

void run_code(Shared& shared, const std::string& name, const Code& code) {
  std::string seen;
  int local = 0;
  for (const Instruction& instruction : code) {
    try {
      run_instruction(shared, name, seen, instruction, local);
    } catch (const DeadlockError&) {
      seen += "D ";
    } catch (const LockAbandoned&) {
      seen += "A ";
    } catch (const Error&) {
      seen += "E ";
    }
  }
  shared.seen[name] += seen;
}

std::string run_program(const RandomProgram& program) {
  Shared shared(program);
  {
    std::vector<Process> processes;
    processes.reserve(program.codes.size());
    for (std::size_t i = 0; i < program.codes.size(); ++i) {
      const std::string name = "p" + std::to_string(i + 1);
      processes.emplace_back(ProcessOptions{.name = name}, [&shared, i] {
        run_code(shared, "p" + std::to_string(i + 1), shared.program->codes[i]);
      });
    }
    for (Process& process : processes) shared.processes.push_back(&process);
    run_code(shared, "main", program.main);
  }
  std::string text;
  for (const auto& [name, seen] : shared.seen) text += name + ": " + seen;
  for (const auto& value : shared.values) text += std::to_string(value.get()) + " ";
  return text;
}

struct Ends {
  bool complete = false;
  std::uint64_t runs = 0;
  std::uint64_t schedules = 0;
  std::set<std::string> outcomes;
};
Ends explore_by(const RandomProgram& program, const Method& method, const ExploreOptions& options) {
  const auto body = [&program] { return run_program(program); };
  TypedProgram<decltype(body)> typed(body);
  const Found found = explore(typed, options, method);
  Ends ends{.complete = found.limit == ExploreLimit::none,
            .runs = found.runs,
            .schedules = found.schedules,
            .outcomes = {}};
  for (const FoundOutcome& outcome : found.outcomes)
    ends.outcomes.insert(std::string(name_of(outcome.kind)) + " " + outcome.text);
  return ends;
}

// MANYHANDS_TEST_PROGRAMS=N: more of them. Under a sanitizer, which slows the search ten times or more,
// fewer.
unsigned programs_to_try() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr unsigned by_default = 30;
#else
  constexpr unsigned by_default = 150;
#endif
  const char* const text = ::getenv("MANYHANDS_TEST_PROGRAMS");
  return text != nullptr ? static_cast<unsigned>(std::stoul(text)) : by_default;
}

struct Tally {
  unsigned compared = 0;
  std::uint64_t runs[3] = {};
};

void compare(unsigned seed, const RandomProgram& program, Tally& tally) {
  const ExploreOptions options{.max_schedules = 4000, .max_steps = 200};
  const Ends all = explore_by(program, {Reduction::none, false}, options);
  if (!all.complete) return;
  const Ends slept = explore_by(program, {Reduction::sleep_sets, false}, options);
  const Ends reduced = explore_by(program, {Reduction::partial_order, false}, options);
  INFO("seed ", seed, ": ", program.text());
  CHECK(slept.complete);
  CHECK(reduced.complete);
  CHECK(slept.outcomes == all.outcomes);
  CHECK(reduced.outcomes == all.outcomes);
  CHECK(reduced.schedules <= all.schedules);
  ++tally.compared;
  tally.runs[0] += all.runs;
  tally.runs[1] += slept.runs;
  tally.runs[2] += reduced.runs;
}

TEST_CASE("the reductions find the same outcomes as trying every schedule") {
  Tally tally;
  for (unsigned seed = 1; seed <= programs_to_try(); ++seed) compare(seed, make_program(seed), tally);
  MESSAGE(tally.compared, " programs: ", tally.runs[0], " runs without reduction, ", tally.runs[1],
          " with sleep sets, ", tally.runs[2], " with both");
  CHECK(tally.compared > programs_to_try() / 2);
}

TEST_CASE("the reductions find what other choices of backtrack points missed") {
  Tally tally;
  // Flanagan's and Godefroid's, with sleep sets; and one that takes a try_lock() for a lock().
  for (const unsigned seed : {1432U, 2969U, 3099U, 3354U, 4409U, 4996U, 5621U, 5816U, 764U, 908U, 972U})
    compare(seed, make_program(seed), tally);
  CHECK(tally.compared == 11);
}

TEST_CASE("the reductions find the same outcomes where several locks are taken in one step") {
  Tally tally;
  for (unsigned seed = 1; seed <= programs_to_try(); ++seed) compare(seed, make_locking_program(seed), tally);
  MESSAGE(tally.compared, " programs: ", tally.runs[0], " runs without reduction, ", tally.runs[1],
          " with sleep sets, ", tally.runs[2], " with both");
  CHECK(tally.compared > programs_to_try() / 2);
}

TEST_CASE("enough preemptions are as good as no bound") {
  for (unsigned seed = 1; seed <= programs_to_try() / 3; ++seed) {
    const RandomProgram program = make_program(seed);
    const Ends all =
        explore_by(program, {Reduction::partial_order, false}, {.max_schedules = 3000, .max_steps = 200});
    const Ends bounded = explore_by(program, {Reduction::none, false},
                                    {.max_schedules = 6000, .max_preemptions = 20, .max_steps = 200});
    if (!all.complete || !bounded.complete) continue;
    INFO("seed ", seed, ": ", program.text());
    CHECK(bounded.outcomes == all.outcomes);
  }
}

}  // namespace
}  // namespace manyhands::exploring
