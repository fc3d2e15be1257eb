#pragma once
// Search: the tree of schedules, walked depth first. The program itself is the state: each run starts anew,
// repeats the choices that lead to where the walk stands, and goes on from there.
//
// Not every schedule is run. Two that differ in the order of steps that commute end in the same way, so that
// one of them is enough:
// - Partial order reduction by backtrack points: at each state one fiber is chosen; another one only if it
// turns out later
//   in a run that a step is in a race with the chosen one, and that the way to the other order begins with
//   that fiber. Source: C. Flanagan, P. Godefroid, "Dynamic Partial-Order Reduction for Model Checking
//   Software" (2005), with the choice of fibers from P. Abdulla, S. Aronis, B. Jonsson, K. Sagonas, "Source
//   Sets" (2017), algorithm 1: together with sleep sets, Flanagan's and Godefroid's own choice misses
//   outcomes.
// - Sleep sets: what was tried in a state is not tried again below its siblings until something dependent
// happened.
//   Source: P. Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems" (1996).
// With a bound on preemptions neither is used: the schedule that stands for others may be one with more
// preemptions. Source of the bound: M. Musuvathi, S. Qadeer, "Iterative Context Bounding for Systematic
// Testing" (2007).
//
// Never misses an outcome of a program that is finite, does the same steps when run in the same order, and
// whose fibers see each other through announced actions only.
//
// One thread.

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "manyhands/explore/trace.hpp"

namespace manyhands::exploring {

enum class Reduction { none, sleep_sets, partial_order };
inline constexpr std::uint32_t unbounded_preemptions = UINT32_MAX;

struct SearchOptions {
  Reduction reduction = Reduction::partial_order;
  std::uint32_t max_preemptions = unbounded_preemptions;  // bounded: reduction must be none
};

// What each live fiber is about to do. Written by the engine.
struct Pending {
  Action action;
  Depth announced_at = 0;  // the depth of the first state in which it was pending
};
using PendingActions = std::array<Pending, max_fibers>;

// A state of a run.
struct State {
  FiberSet live = 0;                  // have not ended
  FiberSet enabled = 0;               // can go on
  FiberSet ready = 0;                 // can go on without a time-out
  FiberNumber previous = max_fibers;  // who did the last step; max_fibers: nobody
  PendingActions* pending = nullptr;
};

class Search {
 public:
  explicit Search(const SearchOptions& options) : options_(options) {}

  struct Choice {
    FiberNumber fiber;
    bool preempts;
  };
  // The fiber that goes on in the state that the run reached; nullopt if what follows was seen in other runs,
  // or if nobody can go on. Throws Error if the run does not repeat what was recorded.
  std::optional<Choice> choose(const State& state, const Trace& trace);
  // To be told where a run ends before all fibers have ended.
  void stop(const State& state, const Trace& trace);
  // Prepares the next run; false if all was seen.
  bool next_run();

  // Whether schedules were left out because they have too many preemptions.
  bool was_bounded() const noexcept { return bounded_; }

 private:
  struct Node {
    FiberSet enabled;
    FiberSet todo;   // to be chosen here at some time; with the reduction, grows while the walk is below
    FiberSet done;   // was chosen
    FiberSet sleep;  // need not be chosen
    FiberNumber chosen;
    FiberNumber willing;        // who would go on without a preemption; max_fibers: nobody
    std::uint32_t preemptions;  // before this choice
    Action action;              // of the chosen
  };

  Choice repeat(const Node& node, const State& state) const;
  std::optional<Choice> choose_new(const State& state);
  void add_backtrack_points(const State& state, FiberSet fibers, const Trace& trace);
  void add_backtrack_points(FiberNumber fiber, const Pending& pending, const Trace& trace);
  FiberSet allowed(const Node& node) const noexcept;
  void take(Node& node, FiberNumber fiber) noexcept;
  std::uint32_t preemptions_after(const Node& node) const noexcept;

  SearchOptions options_;
  std::vector<Node> path_;
  std::size_t next_ = 0;  // depth of the run
  bool bounded_ = false;
};

// Who goes on in `state` if nothing speaks against it: the previous fiber as long as it is able and willing,
// then the lowest number that need not time out.
FiberNumber preferred(const State& state, FiberSet among) noexcept;
// The previous fiber, if another one's turn would be a preemption: it is able to go on, and neither sleeps
// nor waits with a time limit. Else max_fibers.
FiberNumber willing_fiber(const State& state) noexcept;

}  // namespace manyhands::exploring
