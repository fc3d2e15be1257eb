#pragma once
// OwnThread: a thread that manyhands runs for itself, told apart from the program's.
//
// A process may only be forked safely while no thread holds locks that the copy would wait for. Our own
// threads hold none that a child uses; foreign_threads() counts the others. And a wait that only another
// thread can end is in vain if there are none but our own, unless these have something of the user's to run:
// an Errand.

#include <sys/types.h>

#include <functional>
#include <thread>

namespace manyhands {

// Joins in the destructor. All signals are blocked in it: they are for the program's threads. One owner.
class OwnThread {
 public:
  OwnThread() noexcept = default;
  // Throws SystemError if no thread can be started.
  explicit OwnThread(std::function<void()> body);
  OwnThread(OwnThread&& other) noexcept = default;
  OwnThread& operator=(OwnThread&& other) noexcept;
  ~OwnThread() { join(); }

  bool running() const noexcept { return thread_.joinable(); }
  bool is_current() const noexcept { return thread_.get_id() == std::this_thread::get_id(); }
  // Blocks until the body has returned; called from the body, lets the thread end by itself. In a fork of the
  // process that started it there is nothing to wait for.
  void join() noexcept;

 private:
  std::thread thread_;
  pid_t process_ = 0;  // that started it; in a fork of that process there is no such thread
};

// Something of the user's that one of our own threads runs now or later: a continuation. It is one as long as
// this object or a copy of it lives. Any thread.
class Errand {
 public:
  Errand() noexcept;
  Errand(const Errand&) noexcept : Errand() {}
  Errand& operator=(const Errand&) noexcept = default;
  ~Errand();
};

// Threads of this process other than the caller's and manyhands' own. Reads /proc; may wait some milliseconds
// for a thread that has ended to vanish from there.
int foreign_threads();

// Whether nobody else in this process can do anything any more: the caller's thread is the only one besides
// our own, and these have no Errand. False in doubt, as while threads start or end. Reads /proc.
bool alone_in_process() noexcept;
// How many threads of this process may still do something: the program's, the caller's, and tools'. 0 if that
// is not known at this moment, or if an Errand waits.
int busy_threads() noexcept;

}  // namespace manyhands
