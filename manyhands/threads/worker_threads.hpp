#pragma once
// WorkerThreads: the threads of one arena. Each is started when there is work and none is idle, then waits
// for more.
//
// Up to `core` threads stay until end(); those above, which stand in for others that wait, end when they have
// been idle for a while. Any thread.

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

namespace manyhands::threads {

// What a thread does when it is called. Shared with the threads that do it.
class Visit {
 public:
  virtual ~Visit() = default;
  virtual void visit() = 0;  // must not throw
};

class WorkerThreads {
 public:
  WorkerThreads(int core, int most) noexcept : core_(core), most_(most) {}
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  // Has a thread run `what` once: an idle one, else a new one. Returns false if there are `most` and none is
  // idle. Throws std::system_error if none could be started. Always the same `what`.
  bool call(const std::shared_ptr<Visit>& what);
  // Ends the idle threads, and the others once they are idle. Blocks until all have ended; called by one of
  // them, does not wait.
  void end() noexcept;
  // How many there are.
  int alive() noexcept;

 private:
  struct Member {
    std::thread thread;
    bool detached = false;  // guarded by mutex_
  };
  using Place = std::list<Member>::iterator;

  void run(Visit& what, Place place) noexcept;
  bool is_called_again(std::unique_lock<std::mutex>& lock) noexcept;

  const int core_;
  const int most_;
  // Guards the rest.
  std::mutex mutex_;
  std::condition_variable called_;
  std::condition_variable gone_;
  std::list<Member> members_;  // those that run
  std::list<Member> left_;     // those that are about to end, and wait to be joined
  int alive_ = 0;
  int idle_ = 0;
  int calls_ = 0;  // that idle threads have not heard yet; at most idle_
  bool ending_ = false;
};

}  // namespace manyhands::threads
