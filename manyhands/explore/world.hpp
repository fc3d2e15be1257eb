#pragma once
// World: runs a program once, its processes as fibers, and has a Chooser say at each step who goes on.
//
// A fiber runs until it announces its next step (shm/schedule.hpp) and stops there until it is chosen; a new
// one runs to its first step at once. What it does between two steps is seen by nobody else, so that only the
// order of the steps counts.
//
// A run that cannot go on (deadlock, too many steps) is unwound, the newest fiber first: steps that are
// possible are done, one that is not throws a private type. A run that the chooser does not want to see to
// its end (it was seen) goes on anyhow: that costs less than unwinding.
//
// Fibers, their stacks and their entries among the participants are kept for the next run.
//
// One thread.

#include <array>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manyhands/explore/fiber.hpp"
#include "manyhands/explore/schedule.hpp"
#include "manyhands/explore/search.hpp"
#include "manyhands/explore/trace.hpp"
#include "manyhands/shm/lock_state.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::exploring {

class Chooser {
 public:
  // Who goes on; nullopt: the rest is not of interest. What it throws ends the run, and comes out of
  // World::run().
  virtual std::optional<Search::Choice> choose(const State& state, const Trace& trace) = 0;
  // Nobody can go on, or the run has become too long.
  virtual void stop(const State& state, const Trace& trace) = 0;

 protected:
  ~Chooser() = default;
};

enum class RunEnd {
  finished,
  deadlock,
  step_limit,
  unwanted,  // the chooser did not want to see the rest
};

class World final : public shm::Scheduler {
 public:
  World(std::size_t stack_bytes, std::size_t max_steps);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Runs body(context) as the main fiber, until it and all fibers that it started have ended. Throws what the
  // chooser threw, and Error if a fiber could not be unwound.
  RunEnd run(Chooser& chooser, void (*body)(void*), void* context);

  // ---- Of the last run.

  const Trace& trace() const noexcept { return trace_; }
  // Whether the main fiber returned, and what it threw if not.
  bool main_returned() const noexcept { return main_returned_; }
  const std::exception_ptr& main_error() const noexcept { return main_error_; }
  // "Process-1 threw std::runtime_error: text", for each other fiber that did.
  const std::vector<std::string>& failures() const noexcept { return failures_; }
  // After a deadlock: who waits for what, one line each.
  const std::string& deadlock() const noexcept { return deadlock_; }
  std::size_t preemptions() const noexcept { return preemptions_; }
  Schedule schedule() const;

  // ---- shm::Scheduler

  void step(const shm::Operation& operation, shm::Readiness ready) override;
  bool step_or_time_out(const shm::Operation& operation, shm::Readiness ready) override;
  std::uint32_t start(std::string_view name, void (*body)(void*), void* context) override;
  bool ended(std::uint32_t number) const override;

 private:
  struct Unwind {};                                // thrown through fibers that cannot go on
  static constexpr FiberNumber root = max_fibers;  // the thread that called run()

  struct Slot {
    World* world = nullptr;
    FiberNumber number = 0;
    std::unique_ptr<Fiber> fiber;
    std::string name;
    shm::ThreadToken token = 0;  // 0: must be entered before the slot is used again
    void (*body)(void*) = nullptr;
    void* context = nullptr;
    shm::Readiness ready;
    FiberNumber starter = root;  // who goes on when this one announces its first step
    bool first_step_past = false;
    bool timed_out = false;
    FiberSet joined = 0;                // it knows that these ended
    bool in_wait = false;               // its last steps were those of Condition::wait
    ObjectNumber given_up = no_object;  // the lock that it gave up in there
    std::uint32_t unwind_steps = 0;
  };
  struct Object {
    shm::Offset offset = 0;
    shm::BlockKind kind = shm::BlockKind::raw;
    std::uint32_t number = 0;  // of its kind in the program
    bool is_lock = false;
    FiberSet takers = 0;  // of a lock: who took it, or tried to, and did not release it since
    std::array<char, sizeof(shm::LockState::name)> name{};
  };
  struct TableEntry {
    shm::Offset offset = 0;
    ObjectNumber object = 0;
    std::uint64_t run = 0;
  };

  bool announce(const Action& action, shm::Readiness ready);
  bool unwind_step(const Action& action, const shm::Readiness& ready);
  bool knows_the_end(const shm::Readiness& ready);
  Action action_of(const shm::Operation& operation, bool timed);
  ObjectNumber number_of(shm::Offset offset);
  void find_enabled();
  FiberNumber decide();
  FiberNumber stop(RunEnd end) noexcept;
  void note_chosen(FiberNumber fiber, bool preempts);
  void switch_to(FiberNumber next) noexcept;
  Fiber* arrive_at(FiberNumber next) noexcept;
  Fiber& fiber_of(FiberNumber number) noexcept {
    return number == root ? root_fiber_ : *slots_[number]->fiber;
  }
  FiberNumber launch(std::string_view name, void (*body)(void*), void* context);
  shm::ThreadToken take_token(std::string_view name);
  static Fiber* run_slot(void* context);
  FiberNumber end_current();
  ObjectNumber held_by(FiberNumber fiber) const noexcept;
  bool has_ended(FiberNumber number) const noexcept { return (state_.live & only(number)) == 0; }
  void follow_locks(Slot& slot, const Action& action) noexcept;
  void unwind();
  void unwind(FiberNumber fiber);
  std::string describe_deadlock() const;
  std::string object_name(ObjectNumber object) const;
  std::string object_names(const Action& action) const;
  std::string describe_wait(FiberNumber fiber) const;

  std::size_t stack_bytes_;
  std::size_t max_steps_;
  Fiber root_fiber_;
  shm::ThreadToken root_token_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;  // kept between runs; the first count_ are of this run

  struct Spare {
    std::string name;
    shm::ThreadToken token;
  };
  std::vector<Spare> spare_;  // that no slot uses now

  // Of this run:
  Chooser* chooser_ = nullptr;
  Trace trace_;
  PendingActions pending_{};
  State state_;
  FiberNumber count_ = 0;
  FiberNumber current_ = root;
  std::size_t steps_ = 0;
  std::size_t preemptions_ = 0;
  bool unwanted_ = false;
  bool unwinding_ = false;
  RunEnd end_ = RunEnd::finished;
  bool main_returned_ = false;
  std::exception_ptr main_error_;
  std::exception_ptr chooser_error_;
  std::vector<std::string> failures_;
  std::string deadlock_;
  std::string lost_;                 // the name of a fiber that could not be unwound
  FiberSet* asked_about_ = nullptr;  // while a readiness is looked at: the fibers whose end it asks about
  std::vector<Object> objects_;      // [0] is none
  std::vector<TableEntry> table_;    // offset -> object, open addressing
  std::uint64_t run_number_ = 0;
};

// "std::runtime_error: text", or "int" and the like for what has no text.
std::string describe_exception(const std::exception_ptr& error);

}  // namespace manyhands::exploring
