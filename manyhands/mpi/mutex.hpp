#pragma once
// Taking turns: one rank at a time.
//
//   mpi::Mutex mutex(world);
//   { const std::scoped_lock guard(mutex);  write_results(); }
//
//   mpi::in_rank_order(world, [] { write_results(); });   // rank 0 first, then rank 1 ...

#include <type_traits>
#include <utility>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/window.hpp"

namespace manyhands::mpi {

// A mutex between the ranks of a communicator: at most one of them holds it. Those that wait get it in the
// order in which they asked. Lockable by the standard's guards. A rank that waits does so in MPI, for a
// message; who asked last is a number in a window of rank 0. If the holder dies, the job ends
// (environment.hpp).
//
// A resource; one thread at a time. Source: J. Mellor-Crummey, M. Scott, "Algorithms for scalable
// synchronization on shared-memory multiprocessors" (1991), with messages instead of spinning.
class Mutex {
 public:
  // Collective; blocks until all ranks have called it.
  explicit Mutex(const Comm& comm);
  // Collective. Requires that no rank holds it or waits.
  ~Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Blocks until this rank holds it. Error if it does already.
  void lock();
  // Whether this rank holds it now; does not wait for others.
  [[nodiscard]] bool try_lock();
  // Hands it to the next that waits. May wait for that rank, which is about to ask, but not for what it does.
  // Error if this rank does not hold it.
  void unlock();
  // Whether this rank holds it. No call of MPI.
  bool is_locked() const noexcept { return held_; }

 private:
  Comm comm_;         // of our own messages
  Window<int> last_;  // element 0 of rank 0: 1 + the rank that asked last; 0: nobody
  bool held_ = false;
};

namespace detail {
// Passes the turn on, also when an exception leaves it.
class TurnInOrder {
 public:
  explicit TurnInOrder(const Comm& comm);  // blocks until all lower ranks have had theirs
  ~TurnInOrder();
  TurnInOrder(const TurnInOrder&) = delete;
  TurnInOrder& operator=(const TurnInOrder&) = delete;

 private:
  MPI_Comm comm_;
  int rank_;
  int size_;
};
}  // namespace detail

// Calls f() on one rank after the other, in the order of the ranks; returns what it returned. Collective;
// blocks until f has returned here, not until all others are done. An exception of f is passed on after the
// next rank has its turn.
template <class F>
std::invoke_result_t<F> in_rank_order(const Comm& comm, F&& f) {
  const detail::TurnInOrder turn(comm);
  return std::forward<F>(f)();
}

}  // namespace manyhands::mpi
