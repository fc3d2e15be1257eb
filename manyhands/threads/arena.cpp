#include "manyhands/threads/arena.hpp"

#include <fmt/core.h>
#include <tbb/concurrent_queue.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/left_behind.hpp"

namespace manyhands::threads {
namespace {

constexpr std::int64_t spin_ns = 20'000;  // how long a thread without jobs looks for more before it leaves

void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// oneTBB caps the threads of the whole process at the number of cores. Pools may want more (tasks that
// sleep), and the smallest of all caps counts: so there is one for all pools, high enough for any; each arena
// has its own limit.
void lift_thread_cap() {
  static const tbb::global_control cap(tbb::global_control::max_allowed_parallelism, 1024);
}

int this_worker() noexcept { return std::max(0, tbb::this_task_arena::current_thread_index()); }

// What this thread does for an arena, while it does.
struct Here {
  const void* arena = nullptr;  // null outside of any
  int visits = 0;               // calls of Jobs::visit() for that arena on this thread's stack
  std::size_t jobs = 0;         // its jobs there
};
thread_local Here here;

class Within {
 public:
  explicit Within(const void* arena) noexcept : before_(here) {
    if (here.arena != arena) here = {.arena = arena};
  }
  ~Within() { here = before_; }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;

 private:
  Here before_;
};

}  // namespace

// The queue of jobs and the waits for them. Shared with the threads that drain it: a job may drop the last
// owner of its own pool.
class ThreadArena::Jobs : public std::enable_shared_from_this<Jobs> {
 public:
  explicit Jobs(int threads) : threads_(threads), spinners_allowed_(std::max(0, cpu_count() - 1)) {}

  // Returns whether another thread should come and visit().
  bool push(std::shared_ptr<Job> job) {
    pushed_.fetch_add(1, std::memory_order_relaxed);
    queue_.push(std::move(job));
    std::atomic_thread_fence(std::memory_order_seq_cst);  // the push comes before the look at who drains
    if (helpers_.load(std::memory_order_relaxed) > 0) notify();
    if (!add_drainer()) return false;
    visitors_.fetch_add(
        1, std::memory_order_relaxed);  // whoever pushes, owns the arena: leave() is not yet called
    return true;
  }

  // Runs jobs until there are none. For a thread that push() asked for.
  void visit() {
    const auto keep = shared_from_this();
    const Within within(this);
    ++here.visits;
    drain();
    const std::lock_guard lock(mutex_);
    visitors_.fetch_sub(1, std::memory_order_relaxed);
    gone_.notify_all();
  }

  // Blocks until all threads that push() asked for have come and gone, but for this one if it is one of them.
  void leave() {
    const int own = here.arena == this ? here.visits : 0;
    std::unique_lock lock(mutex_);
    gone_.wait(lock, [&] { return visitors_.load(std::memory_order_relaxed) == own; });
  }

  // Blocks until every job that was pushed has run. A job that calls this does not wait for itself, nor for
  // other jobs that do the same.
  void wait_for_all() {
    const std::size_t own = here.arena == this ? here.jobs : 0;
    if (own == 0) {
      wait([this] { return left() == 0; }, {});
      return;
    }
    spared_.fetch_add(own);
    notify();
    wait([this] { return left() <= spared_.load(); }, {});
    spared_.fetch_sub(own);
  }

  bool wait(const std::function<bool()>& done, const Deadline& deadline) {
    const auto until = now_ns() + spin_ns;
    const bool helps = here.arena == this;
    for (;;) {
      if (done()) return true;
      if (helps && run_one()) continue;
      if (deadline.passed()) return done();
      if (now_ns() < until) {
        cpu_relax();
        continue;
      }
      std::unique_lock lock(mutex_);
      waiters_.fetch_add(1);
      if (helps) helpers_.fetch_add(1);
      const auto ready = [&] { return done() || (helps && !queue_.empty()); };
      if (deadline.bounded()) {
        woken_.wait_for(lock, deadline.left(), ready);
      } else {
        woken_.wait(lock, ready);
      }
      if (helps) helpers_.fetch_sub(1);
      waiters_.fetch_sub(1);
    }
  }

  void notify() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // what is waited for was published before this look
    if (waiters_.load(std::memory_order_relaxed) == 0) return;
    {
      const std::lock_guard lock(mutex_);
    }  // a waiter is either before its check or asleep
    woken_.notify_all();
  }

 private:
  void drain() {
    do {
      while (run_one() || spin_for_jobs()) {
      }
      drainers_.fetch_sub(1, std::memory_order_seq_cst);
      // A push from here on finds one drainer less and asks for one; one that came before is seen now.
    } while (!queue_.empty() && add_drainer());
  }

  // Jobs that have not run to their end. `run` first: one that is pushed between the looks is left.
  std::size_t left() const noexcept {
    const auto run = run_.load();
    return pushed_.load() - run;
  }

  bool run_one() {
    std::shared_ptr<Job> job;
    if (!queue_.try_pop(job)) return false;
    ++here.jobs;
    job->run(this_worker());
    job.reset();
    --here.jobs;
    run_.fetch_add(1, std::memory_order_seq_cst);  // before the look at who waits: see notify()
    if (waiters_.load(std::memory_order_relaxed) > 0 && left() <= spared_.load()) notify();
    return true;
  }

  bool add_drainer() {
    int drainers = drainers_.load(std::memory_order_relaxed);
    do {
      if (drainers >= threads_) return false;
    } while (!drainers_.compare_exchange_weak(drainers, drainers + 1, std::memory_order_seq_cst));
    return true;
  }

  bool spin_for_jobs() {
    bool found = false;
    if (spinners_.fetch_add(1) < spinners_allowed_) {
      const auto until = now_ns() + spin_ns;
      do {
        for (int i = 0; i < 32 && !found; ++i) {
          found = !queue_.empty();
          cpu_relax();
        }
      } while (!found && now_ns() < until);
    }
    spinners_.fetch_sub(1);
    return found;
  }

  // Each on a cache line of its own: pushers and drainers do not disturb each other more than they must.
  int threads_;
  int spinners_allowed_;
  tbb::concurrent_queue<std::shared_ptr<Job>> queue_;
  alignas(64) std::atomic<std::size_t> pushed_{0};  // jobs ever pushed
  alignas(64) std::atomic<std::size_t> run_{0};     // jobs ever run
  alignas(64) std::atomic<int> drainers_{0};  // threads in drain() or on their way there, at most threads_
  alignas(64) std::atomic<int> spinners_{0};  // drainers that found the queue empty and look again
  alignas(64) std::atomic<int> waiters_{0};   // threads in or before woken_; written under mutex_
  std::atomic<int> helpers_{0};               // those of them that would run jobs
  std::atomic<std::size_t> spared_{0};        // jobs that run in threads in wait_for_all()
  std::atomic<int> visitors_{0};  // threads in visit() or on their way there; taken away under mutex_
  std::mutex mutex_;
  std::condition_variable woken_;
  std::condition_variable gone_;  // a visitor
};

class ThreadArena::Impl {
 public:
  explicit Impl(int threads) : threads_(threads), jobs_(std::make_shared<Jobs>(threads)) {
    lift_thread_cap();
    arena_.initialize(threads, 0);
  }

  // When a pool is gone, nothing of it runs in oneTBB's threads any more: the program may end or fork.
  ~Impl() { jobs_->leave(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void post(std::shared_ptr<Job> job) {
    if (jobs_->push(std::move(job))) arena_.enqueue([jobs = jobs_.get()] { jobs->visit(); });
  }

  // A fork of the process that made the arena has none of its threads.
  bool has_threads() const noexcept { return forks() == forks_; }

  void for_each_chunk(std::size_t chunks, const std::function<void(std::size_t, int)>& body) {
    arena_.execute([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, chunks, 1),
          [&](const tbb::blocked_range<std::size_t>& range) {
            const Within within(jobs_.get());
            for (std::size_t chunk = range.begin(); chunk != range.end(); ++chunk) body(chunk, this_worker());
          },
          tbb::simple_partitioner());
    });
  }

  Jobs& jobs() noexcept { return *jobs_; }
  task::CallbackThread& callbacks() noexcept { return callbacks_; }
  int size() const noexcept { return threads_; }

 private:
  int threads_;
  int forks_ = forks();
  tbb::task_arena arena_;
  std::shared_ptr<Jobs> jobs_;
  task::CallbackThread callbacks_;
};

ThreadArena::ThreadArena(int threads) : impl_(std::make_unique<Impl>(threads)) {}
ThreadArena::~ThreadArena() {
  if (!impl_->has_threads()) leave_behind(std::move(impl_));
}
void ThreadArena::post(std::shared_ptr<Job> job) { impl_->post(std::move(job)); }
void ThreadArena::for_each_chunk(std::size_t chunks, const std::function<void(std::size_t, int)>& body) {
  impl_->for_each_chunk(chunks, body);
}
bool ThreadArena::wait(const std::function<bool()>& done, const Deadline& deadline) {
  if (done()) return true;
  require_threads();
  return impl_->jobs().wait(done, deadline);
}
void ThreadArena::notify() { impl_->jobs().notify(); }
void ThreadArena::drain() {
  if (impl_->has_threads()) impl_->jobs().wait_for_all();
}
task::CallbackThread& ThreadArena::callbacks() noexcept { return impl_->callbacks(); }
int ThreadArena::size() const noexcept { return impl_->size(); }
void ThreadArena::require_threads() const {
  if (impl_->has_threads()) return;
  throw Error(
      fmt::format("this process (pid {}) is a fork of the one that made the pool of threads, and has none of "
                  "its threads; "
                  "make a pool of its own here",
                  ::getpid()));
}

}  // namespace manyhands::threads
