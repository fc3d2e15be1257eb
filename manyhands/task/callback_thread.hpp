#pragma once
// CallbackThread: where continuations (AsyncResult::then, co_await) of an executor run.
//
// One thread, started with the first continuation, so that a slow callback delays other callbacks and nothing
// else. Any thread may post.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "manyhands/base/own_thread.hpp"

namespace manyhands::task {

class CallbackThread {
 public:
  CallbackThread() = default;
  ~CallbackThread() { close(); }
  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  // Runs `callback` soon; at once in this thread after close(). Callbacks must not throw.
  void post(std::function<void()> callback);
  // Runs what was posted, then ends the thread. Blocks; called from a callback, it leaves the rest to that
  // thread.
  void close();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool closed_ = false;                      // guarded by mutex_
  OwnThread thread_;                         // started by the first post(), under mutex_
};

}  // namespace manyhands::task
