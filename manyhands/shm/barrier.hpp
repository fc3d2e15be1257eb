#pragma once
// Barrier: a place where a fixed number of processes or threads wait for each other, round after round.
//
//   mh::Barrier barrier(3);
//   step_one(); barrier.wait(); step_two();    // in three processes
//
// When something goes wrong in a round, all that wait in it get BrokenBarrier, and so does everyone who comes
// later, until reset(): one of them times out or throws in the action, somebody calls abort(), or a
// participant dies. A participant is who has called wait() once. It has died if its process or thread is gone
// without having left; it leaves by ending in the ordinary way: its thread ends, or its process returns from
// main() or calls exit(). (_exit() counts as death; see leave_barriers().) So if a participant is killed
// between two rounds, those that wait hear of it in 50 to 150 ms.
//
// One who never came is no participant yet. When he has died, a wait without time limit breaks the barrier as
// soon as nobody is left who could come instead: every thread of every process that has the barrier waits in
// it, or for the end of a process that does (shm/company.hpp). As long as anybody else has it, as a parent
// that does something, wait() ends by its time limit alone, so give one where that can happen.
//
// Copies refer to the same barrier, also in other processes. All operations are const. Any process, any
// thread. More threads than `parties` may use one barrier; then a round is complete when any `parties` of
// them wait.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands {

// This round of a Barrier will never be complete; the message says why.
class BrokenBarrier : public Error {
 public:
  using Error::Error;
};

struct BarrierOptions {
  // Called once per round, by the participant that comes last, before the others go on. It is the action of
  // that participant's own handle: copies have it, in this process and in forked ones, but it does not travel
  // in messages.
  std::function<void()> action{};
  TimeLimit timeout = Deadline::never;  // of wait() without one
};

class Barrier {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::barrier;
  static constexpr std::size_t max_parties = 8191;
  using Where = std::source_location;

  // Throws Error if `parties` is 0 or above max_parties, ResourceExhausted.
  explicit Barrier(std::size_t parties, BarrierOptions options = {});
  explicit Barrier(shm::BlockPtr block) noexcept;
  Barrier(const Barrier&) = default;  // a moved-from handle stays good
  Barrier& operator=(const Barrier&) = default;

  // Blocks until all parties wait. Returns this participant's number, from 0 in the order of coming: one gets
  // 0. What any of them did before is seen by all afterwards. Throws BrokenBarrier; if the timeout passes,
  // all do; and what the action throws.
  std::size_t wait(const Where& where = Where::current()) const { return wait(timeout(), where); }
  std::size_t wait(TimeLimit timeout, const Where& where = Where::current()) const;

  // Breaks the barrier. Does not block.
  void abort(const Where& where = Where::current()) const;
  // Makes it whole and empty again, in one step: who waits at that moment gets BrokenBarrier, who comes
  // later, also from there, is in the new round. Participants that have died are forgotten.
  void reset(const Where& where = Where::current()) const;

  bool broken(const Where& where = Where::current()) const;
  std::size_t parties() const noexcept;
  // How many wait; 0 if it is broken.
  std::size_t n_waiting(const Where& where = Where::current()) const;

  const shm::BlockPtr& block() const noexcept { return block_; }
  friend bool operator==(const Barrier& a, const Barrier& b) noexcept {
    return a.block_->offset() == b.block_->offset();
  }

 private:
  struct State;
  struct Visit;
  enum class Why : std::uint8_t;

  State& state() const noexcept;
  Duration timeout() const noexcept;
  void join() const;
  void tell_waiters() const noexcept;
  void complete(const Visit& visit) const;
  void run_action(const Visit& visit) const;
  void sleep(const Visit& visit, TimeLimit timeout) const;
  bool is_over(const Visit& visit) const;
  class Look;
  void note(Why why, shm::ThreadToken who, shm::Site site, std::uint64_t came) const noexcept;
  bool break_round(std::uint64_t begun, Why why, shm::ThreadToken who, shm::Site site) const noexcept;
  void look_for_dead(const Visit& visit) const;
  [[noreturn]] void throw_broken(shm::Site site) const;

  shm::BlockPtr block_;
  std::shared_ptr<const std::function<void()>> action_;  // shared by copies; null: none
};

namespace shm {
// The calling thread leaves the barriers that it took part in; also done when a thread ends. For processes
// that end in order, but by _exit().
void leave_barriers() noexcept;
}  // namespace shm

}  // namespace manyhands
