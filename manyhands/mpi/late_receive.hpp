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

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/request.hpp"

namespace manyhands::mpi::detail {

// Both, of all communicators; changed under their mutexes.
inline std::atomic<int> driven{0};

class LateReceive {
 public:
  // Stands in the queue of `state` from now on.
  LateReceive(CommState& state, int source, int tag);
  LateReceive(const LateReceive&) = delete;
  LateReceive& operator=(const LateReceive&) = delete;
  virtual ~LateReceive();

  bool overlaps(int source, int tag) const noexcept {
    return (source == source_ || source == MPI_ANY_SOURCE || source_ == MPI_ANY_SOURCE) &&
           (tag == tag_ || tag == MPI_ANY_TAG || tag_ == MPI_ANY_TAG);
  }
  bool waits() const noexcept { return state_ != nullptr; }
  void leave() noexcept;  // the queue, if it stands there

 protected:
  // The message was matched: makes room and starts to receive it. Called with the queue's mutex held.
  virtual void matched(MPI_Message message, const MPI_Status& status) = 0;

 private:
  friend void match_late(CommState& state);
  CommState* state_;
  int source_;
  int tag_;
};

class InLine {
 public:
  InLine() = default;
  InLine(const InLine&) = delete;
  InLine& operator=(const InLine&) = delete;
  virtual ~InLine();
  bool stands_in_line() const noexcept { return line_ != nullptr; }

 protected:
  // Last in the line of `state` from now on.
  void join_line(CommState& state);
  // Goes on as far as it can; true when it is done or has failed, and leaves the line. Called while it is the
  // first, with the line's mutex held.
  virtual bool go_on() noexcept = 0;

 private:
  friend void advance_line(CommState& state);
  CommState* line_ = nullptr;
};

// Matches what can be matched, in order.
void match_late(CommState& state);
// Lets the first in the line go on, and those behind it when it is done.
void advance_line(CommState& state);
// Both, for all communicators that have any.
void drive_all();

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
