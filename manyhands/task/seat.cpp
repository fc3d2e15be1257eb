#include "manyhands/task/seat.hpp"

#include <utility>

namespace manyhands::task {
namespace {

constinit thread_local Seat* seats = nullptr;  // the innermost

}  // namespace

Seat::Seat() noexcept : outer_(std::exchange(seats, this)) {}
Seat::~Seat() { seats = outer_; }

SeatsLeft::SeatsLeft() noexcept : seats_(std::exchange(seats, nullptr)) {
  for (Seat* seat = seats_; seat != nullptr; seat = seat->outer_) seat->leave();
}
SeatsLeft::~SeatsLeft() {
  for (Seat* seat = seats_; seat != nullptr; seat = seat->outer_) seat->retake();
  seats = seats_;
}

}  // namespace manyhands::task
