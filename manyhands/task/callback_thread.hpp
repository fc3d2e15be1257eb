#pragma once
// CallbackThread: where continuations (AsyncResult::then, co_await) of an executor run.
//
// One thread, started with the first continuation, so that a slow callback delays other callbacks and nothing
// else. Any thread may post.

#include <functional>
#include <memory>

namespace manyhands::task {

class CallbackThread {
 public:
  CallbackThread();
  // As close().
  ~CallbackThread();
  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  // Runs `callback` soon; at once in this thread after close(). Callbacks must not throw.
  void post(std::function<void()> callback);
  // Runs what was posted, then ends the thread. Blocks; called from a callback, it leaves the rest to that
  // thread. In a fork of the process that made this, drops it.
  void close();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with the thread, whose callback may destroy this object
};

}  // namespace manyhands::task
