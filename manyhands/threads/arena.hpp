#pragma once
// ThreadArena: the threads of one ThreadPool, on oneTBB. Runs jobs one by one in order of their posting, and
// loops over chunks. The only place that knows TBB.

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "manyhands/base/clock.hpp"
#include "manyhands/task/callback_thread.hpp"
#include "manyhands/task/state.hpp"

namespace manyhands::threads {

// Something to run once. Shared with the result's owner, hence shared_ptr.
class Job {
 public:
  virtual ~Job() = default;
  virtual void run(int worker) = 0;  // must not throw
};

// Any thread.
class ThreadArena {
 public:
  explicit ThreadArena(int threads);
  // Blocks until its threads have left it (for microseconds, after drain()).
  ~ThreadArena();
  ThreadArena(const ThreadArena&) = delete;
  ThreadArena& operator=(const ThreadArena&) = delete;

  // Runs the job on a thread of the arena, after those posted before it have started. Does not block.
  void post(std::shared_ptr<Job> job);

  // Calls body(chunk, worker) for each chunk in [0, chunks) on the arena's threads and this one, which counts
  // as one of them. Blocks until all have returned. `body` must not throw.
  void for_each_chunk(std::size_t chunks, const std::function<void(std::size_t, int)>& body);

  // Blocks until done() or the deadline. A thread of the arena runs other jobs meanwhile, so that tasks that
  // wait for tasks do not use up the threads. done() must become true through notify(). Throws as
  // require_threads() if it is not true yet.
  bool wait(const std::function<bool()>& done, const Deadline& deadline);
  // Wakes waiting threads to look again.
  void notify();

  // Blocks until every posted job has run; called by a job, until all have that do not wait for the same.
  // Does nothing in a fork of the process that made the arena, where no thread would run them.
  void drain();
  task::CallbackThread& callbacks() noexcept;
  int size() const noexcept;
  // Throws Error in a fork of the process that made the arena, which has none of its threads.
  void require_threads() const;

 private:
  class Jobs;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace manyhands::threads
