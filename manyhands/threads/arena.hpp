#pragma once
// ThreadArena: the threads of one ThreadPool and their queue. Runs jobs one by one in order of their posting,
// and loops over chunks. The only place that knows TBB, whose concurrent queue it uses.
//
// A job that waits for another one runs that one, if nobody has begun it, or chunks of that one, and nothing
// else: what it holds, others can wait for without finding themselves on top of it. If it is run elsewhere,
// the waiting thread sleeps, and another one takes its seat (task/seat.hpp), so that as many threads go on as
// the pool has. These are at most `spares` more; if all of them wait, the seats stay empty until one goes on.
// One that goes on does so at once, so for some time there may be more that run than the pool has threads.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "manyhands/base/clock.hpp"
#include "manyhands/task/callback_thread.hpp"
#include "manyhands/task/state.hpp"

namespace manyhands::threads {

// Something to run once. Shared with the result's owner, hence shared_ptr.
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;

  // Returns true once: to who is to run or to drop it.
  bool claim() noexcept { return !claimed_.load(std::memory_order_relaxed) && !claimed_.exchange(true); }
  bool claimed() const noexcept { return claimed_.load(); }

  // None of them may throw; run() and fail() by who has claimed it.
  virtual void run(int worker) = 0;
  // It will not run.
  virtual void fail(std::exception_ptr error) = 0;
  // While it runs elsewhere: runs those parts of it that nobody has begun.
  virtual void help(int) {}
  // For a job that is waited for: itself. May be null; then it keeps its turn.
  virtual std::shared_ptr<Job> shared() { return nullptr; }

 private:
  friend class ThreadArena;
  std::atomic<bool> claimed_{false};
  int spared_ = 0;  // how many wait in ThreadArena::drain() that it has to wait for; guarded by the arena
};

// A loop over chunks that several threads may work on. Shared with those that come when it is over.
class Loop {
 public:
  using Body = std::function<void(std::size_t chunk, int worker)>;  // must not throw

  // `body` is not called any more once the loop is done.
  Loop(std::size_t chunks, Body body) : chunks_(chunks), goal_(chunks), body_(std::move(body)) {}

  // Runs chunks until all were begun. Returns whether one that it ran was the last.
  bool work(int worker);
  bool done() const noexcept { return ended_.load() >= goal_.load(); }
  std::size_t chunks() const noexcept { return chunks_; }
  // Begins no more chunks; done() is about those that were begun.
  void stop() noexcept { goal_.store(std::min(next_.exchange(chunks_), chunks_)); }

 private:
  friend class ThreadArena;
  const std::size_t chunks_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> ended_{0};
  std::atomic<std::size_t> goal_;
  Body body_;
  const void* owner_ = nullptr;  // the owner's jobs (arena.cpp); before it is shared
};

// What is waited for, beside a condition.
struct WaitFor {
  std::span<Job* const> jobs{};  // that make it true
  // Whether a thread of the arena should run the job itself (the only one) before it sleeps.
  bool run_it = false;
};

// Any thread.
class ThreadArena {
 public:
  static constexpr int spares = 256;

  explicit ThreadArena(int threads);
  // Blocks until its threads have ended (for microseconds, after drain()).
  ~ThreadArena();
  ThreadArena(const ThreadArena&) = delete;
  ThreadArena& operator=(const ThreadArena&) = delete;

  // Runs the job on a thread of the arena, after those posted before it have started. Does not block. Throws
  // ResourceExhausted, and the job will not run, if a thread is needed and cannot be started.
  void post(std::shared_ptr<Job> job);
  // A job that was posted, and that the caller has claimed, is not run.
  void dropped();

  // Calls body(chunk, worker) for each chunk in [0, chunks) on the arena's threads and this one, which counts
  // as one of them. Blocks until all have returned. `body` must not throw. Throws ResourceExhausted, after
  // some chunks perhaps, if a thread is needed and cannot be started.
  void for_each_chunk(std::size_t chunks, const Loop::Body& body);
  // The same; others may work on the loop by help(), before and meanwhile.
  void run(const std::shared_ptr<Loop>& loop);
  void help(Loop& loop, int worker);

  // Blocks until done() or the deadline. done() must become true through notify(). Throws as
  // require_threads() if it is not true yet; Error if jobs wait for jobs deeper than there are threads and
  // stacks for.
  bool wait(const std::function<bool()>& done, const Deadline& deadline, const WaitFor& what = {});
  // Wakes waiting threads to look again.
  void notify();

  // Blocks until every posted job has run; called by a job, until all have that do not wait for the same.
  // Does nothing in a fork of the process that made the arena, where no thread would run them.
  void drain();
  // Ends the threads that have nothing to do.
  void end_idle();
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
