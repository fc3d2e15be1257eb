#pragma once
// What goes on only when this process looks after it: receives of a size that is not known yet, and
// collectives of several steps.
//
// LateReceive: an irecv of a message whose size is not known yet.
// MPI's own receive needs a buffer first. Ours waits until the message is announced (matched probe), makes
// room, and receives then. So that messages are matched in the order in which receives were posted, as MPI
// promises, the waiting ones stand in a queue with their communicator; a later receive that could take the
// same message waits behind them. While any waits, the blocking calls of point_to_point.hpp and request.hpp
// poll instead of sleeping inside MPI, since the other side may need the match to go on. Collectives cannot:
// their nonblocking form is not matched with the blocking one that the other ranks are in.
//
// InLine: a collective of several steps, each of which starts when the one before is done and this process
// looks. Those of one communicator go one after the other, in the order of their start, so that all ranks
// start the same steps in the same order.

#include <atomic>
#include <exception>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi::detail {

// Both, of all communicators; changed under their mutexes.
inline std::atomic<int> driven{0};

class LateReceive {
 public:
  LateReceive(int source, int tag) noexcept : state_(nullptr), source_(source), tag_(tag) {}
  LateReceive(const LateReceive&) = delete;
  LateReceive& operator=(const LateReceive&) = delete;
  virtual ~LateReceive();

  // Stands in the queue of `state` from now on: any thread may match it, so it is complete before.
  void post(CommState& state);
  bool overlaps(int source, int tag) const noexcept {
    if (source == MPI_PROC_NULL || source_ == MPI_PROC_NULL) return false;  // nobody's message
    return (source == source_ || source == MPI_ANY_SOURCE || source_ == MPI_ANY_SOURCE) &&
           (tag == tag_ || tag == MPI_ANY_TAG || tag_ == MPI_ANY_TAG);
  }
  bool from_nobody() const noexcept { return source_ == MPI_PROC_NULL; }
  bool waits() const noexcept { return state_.load(std::memory_order_acquire) != nullptr; }
  // Out of the queue, if it stands there. False if it does not: then matched() was called, or it failed.
  bool leave() noexcept;
  // The communicator is being freed: nothing will come. Called with the queue's mutex held.
  void lose() noexcept;

 protected:
  // The message was matched: makes room and starts to receive it. Called with the queue's mutex held, by any
  // thread that drives; what it wrote is seen by who sees that it waits no more.
  virtual void matched(MPI_Message message, const MPI_Status& status) = 0;
  // Throws why it could not be matched, if so. Requires: it does not wait.
  void rethrow() const {
    if (failure_) [[unlikely]]
      std::rethrow_exception(failure_);
  }

 private:
  friend void match_late(CommState& state);
  std::atomic<CommState*> state_;  // null: out of the queue. Written under the queue's mutex, last of all
  std::exception_ptr failure_;     // written before that
  int source_;
  int tag_;
};

class InLine {
 public:
  InLine() = default;
  InLine(const InLine&) = delete;
  InLine& operator=(const InLine&) = delete;
  virtual ~InLine();
  bool stands_in_line() const noexcept { return line_.load(std::memory_order_acquire) != nullptr; }

 protected:
  // Last in the line of `state` from now on.
  void join_line(CommState& state);
  // The communicator is being freed. Called with the line's mutex held.
  virtual void lost() noexcept = 0;
  // Goes on as far as it can; true when it is done or has failed, and leaves the line. Called while it is the
  // first, with the line's mutex held.
  virtual bool go_on() noexcept = 0;

 private:
  friend void advance_line(CommState& state);
  friend void forget_waiting(CommState& state) noexcept;
  std::atomic<CommState*> line_ = nullptr;  // written under the line's mutex
};

// Matches what can be matched, in order.
void match_late(CommState& state);
// Lets the first in the line go on, and those behind it when it is done.
void advance_line(CommState& state);
// Both, for all communicators that have any.
void drive_all();
// The communicator is being freed: what waits on it has failed.
void forget_waiting(CommState& state) noexcept;
// Blocks until no collective stands in the line of `state`, as MPI_Comm_free lets them end.
void finish_line(CommState& state);
// What they throw from then on.
std::exception_ptr freed_error(const char* verb) noexcept;

// Before a blocking receive or probe of (source, tag): blocks until no earlier late receive could take its
// message.
void pass_late(CommState& state, int source, int tag);
// Whether a late receive stands before one of (source, tag).
bool stands_behind_late(CommState& state, int source, int tag);

// Runs a blocking call, or, while late receives wait, its nonblocking form with polling.
template <class Blocking, class Nonblocking>
int run_blocking(MPI_Status* status, Blocking blocking, Nonblocking nonblocking) {
  if (driven.load(std::memory_order_relaxed) == 0) [[likely]]
    return blocking();
  MPI_Request request = MPI_REQUEST_NULL;
  int code = nonblocking(&request);
  if (code != MPI_SUCCESS) return code;
  Backoff backoff;
  for (int done = 0; done == 0;) {
    code = MPI_Test(&request, &done, status);
    if (code != MPI_SUCCESS) return code;
    if (done == 0) backoff.pause();
  }
  return MPI_SUCCESS;
}

}  // namespace manyhands::mpi::detail
