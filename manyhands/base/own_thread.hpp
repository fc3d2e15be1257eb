#pragma once
// OwnThread: a thread that manyhands runs for itself, told apart from the program's.
//
// A process may only be forked safely while no thread holds locks that the copy would wait for. Our own
// threads hold none that a child uses; foreign_threads() counts the others.

#include <functional>
#include <thread>

namespace manyhands {

// Joins in the destructor. All signals are blocked in it: they are for the program's threads. One owner.
class OwnThread {
 public:
  OwnThread() noexcept = default;
  explicit OwnThread(std::function<void()> body);
  OwnThread(OwnThread&& other) noexcept = default;
  OwnThread& operator=(OwnThread&& other) noexcept;
  ~OwnThread() { join(); }

  bool running() const noexcept { return thread_.joinable(); }
  bool is_current() const noexcept { return thread_.get_id() == std::this_thread::get_id(); }
  // Blocks until the body has returned; called from the body, lets the thread end by itself.
  void join() noexcept;

 private:
  std::thread thread_;
};

// Threads of this process other than the caller's and manyhands' own. Reads /proc; may wait some milliseconds
// for a thread that has ended to vanish from there.
int foreign_threads();

}  // namespace manyhands
