#pragma once
// Message: one that was matched by mprobe() and is still to be received; nobody else can take it.

#include <memory>
#include <utility>

#include "manyhands/mpi/communicator.hpp"
#include "manyhands/mpi/status.hpp"

namespace manyhands::mpi {

// A resource: moved, received exactly once. Dropping it loses the message (MPI has no way to give it back).
class Message {
 public:
  Message(detail::CommState& state, MPI_Message message, const MPI_Status& status) noexcept
      : state_(state.shared_from_this()), message_(message), status_(status) {}
  Message(Message&& other) noexcept
      : state_(std::move(other.state_)), message_(other.message_), status_(other.status_) {}
  // What this one held is lost unless it was received.
  Message& operator=(Message&& other) noexcept {
    state_ = std::move(other.state_);
    message_ = other.message_;
    status_ = other.status_;
    return *this;
  }

  // To be looked at: it is received by this object.
  MPI_Message native() const noexcept { return state_ == nullptr ? MPI_MESSAGE_NULL : message_; }
  MPI_Fint to_fortran() const { return MPI_Message_c2f(native()); }
  Status status() const {
    detail::require_active("Message::status");
    return detail::to_status(status_);
  }
  // As PointToPoint::recv and recv_into, of this message. Throws Error if it was received already.
  template <class T>
  T recv();
  template <class T>
  Status recv_into(T&& data);

 private:
  void require(const char* verb) {
    detail::require_active(verb);
    if (state_ == nullptr || message_ == MPI_MESSAGE_NULL)
      detail::fail(Errc::request, verb, {}, "the message was received already, or moved from");
  }
  std::shared_ptr<detail::CommState> state_;  // the communicator may be freed before
  MPI_Message message_;
  MPI_Status status_;
};

}  // namespace manyhands::mpi
