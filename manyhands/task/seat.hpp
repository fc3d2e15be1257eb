#pragma once
// Seat: a thread's place among those of its executor that may run at once.
//
// A thread that runs a task has a seat. While the task waits for something, the thread gives it up, so that
// another one can run tasks: whoever makes a thread sleep says so by SeatsLeft. Each object belongs to one
// thread.

namespace manyhands::task {

class Seat {
 public:
  // The calling thread has it as long as this lives, beside those that it has already.
  Seat() noexcept;
  virtual ~Seat();
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;

  // The thread is about to sleep; and has slept. Neither blocks for long.
  virtual void leave() noexcept = 0;
  virtual void retake() noexcept = 0;

 private:
  friend class SeatsLeft;
  Seat* outer_;
};

// All seats of the calling thread are given up for a scope.
class SeatsLeft {
 public:
  SeatsLeft() noexcept;
  ~SeatsLeft();
  SeatsLeft(const SeatsLeft&) = delete;
  SeatsLeft& operator=(const SeatsLeft&) = delete;

 private:
  Seat* seats_;
};

}  // namespace manyhands::task
