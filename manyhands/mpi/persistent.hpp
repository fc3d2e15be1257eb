#pragma once
// Persistent: a transfer or collective that is set up once and started many times; and the partitioned forms
// of MPI 4.

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "manyhands/mpi/datatype.hpp"
#include "manyhands/mpi/status.hpp"

namespace manyhands::mpi {

namespace detail {
struct CommState;
}

// A resource: moved, not copied. The data must stay as long as it is used. While started it is not to be
// started again. wait_all, test_any and the others of request.hpp take ranges of them.
class Persistent {
 public:
  Persistent() = default;
  Persistent(MPI_Request native, const char* verb) noexcept : native_(native), verb_(verb) {}
  // For MPIs without persistent collectives: `start` starts one round; `keep` holds what it needs.
  Persistent(std::function<MPI_Request()> start, const char* verb) : start_(std::move(start)), verb_(verb) {}
  Persistent(MPI_Request native, std::shared_ptr<void> keep, const char* verb) noexcept
      : native_(native), keep_(std::move(keep)), verb_(verb) {}
  Persistent(Persistent&& other) noexcept;
  Persistent& operator=(Persistent&& other) noexcept;
  // Waits for a round that was started.
  ~Persistent();

  // Starts a round. Throws Error if one is under way.
  void start();
  // Blocks until the round is done; at once if none was started. Returns what a receive got.
  Status wait();
  // Whether the round is done; true if none was started. Does not block.
  bool test();
  // Asks the round of a receive (or a send, where the MPI can) to end without a message; then wait() and look
  // at .cancelled. Throws Error (request) for a collective that manyhands repeats itself, as MPI forbids it
  // for all.
  void cancel();
  // A round was started, and neither wait() nor test() has seen its end.
  bool started() const noexcept { return started_; }
  // Of the last round that ended.
  Status status() const { return last_; }
  bool valid() const noexcept { return native_ != MPI_REQUEST_NULL || start_ != nullptr; }

 private:
  void drop() noexcept;
  MPI_Request native_ = MPI_REQUEST_NULL;
  std::function<MPI_Request()> start_;
  std::shared_ptr<void> keep_;
  const char* verb_ = "";
  bool started_ = false;
  Status last_{};
};

template <class Range>
void start_all(Range& all) {
  for (Persistent& one : all) one.start();
}

// start(); ready(i) for each part in any order, from any thread (ThreadLevel::multiple); wait().
class PartitionedSend {
 public:
  PartitionedSend(detail::CommState& state, ConstBuffer data, int partitions, int dest, int tag);
  PartitionedSend(PartitionedSend&&) noexcept;
  ~PartitionedSend();
  void start();
  // Part `i` may be sent, and not be changed until wait(). Throws Error unless 0 <= i < partitions.
  void ready(int i);
  void wait();
  bool test();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// start(); arrived(i) as often as wished; wait().
class PartitionedReceive {
 public:
  PartitionedReceive(detail::CommState& state, Buffer data, int partitions, int source, int tag);
  PartitionedReceive(PartitionedReceive&&) noexcept;
  ~PartitionedReceive();
  void start();
  // Whether part `i` may be read. Does not block.
  bool arrived(int i);
  void wait();
  bool test();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace manyhands::mpi
