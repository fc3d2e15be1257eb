#include "manyhands/threads/arena.hpp"

#include <fmt/core.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <tbb/concurrent_queue.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/forks.hpp"
#include "manyhands/base/left_behind.hpp"
#include "manyhands/task/seat.hpp"
#include "manyhands/threads/worker_threads.hpp"

namespace manyhands::threads {
namespace {

constexpr std::int64_t spin_ns = 20'000;  // how long a thread without jobs looks for more before it leaves
constexpr int max_nested = 64;            // jobs on one thread's stack that wait for each other
constexpr std::size_t least_stack = 128 << 10;  // bytes left for a job that only this thread can run
constexpr Duration slice = std::chrono::milliseconds(20);
constexpr int patience = 5;  // slices for another thread to begin a job that this one waits for

void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The calling thread's stack.
struct Stack {
  std::uintptr_t lowest = 0;
  std::size_t size = 0;

  std::size_t left() const noexcept {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    return here > lowest ? here - lowest : 0;
  }
};

Stack find_stack() noexcept {
  if (::syscall(SYS_gettid) != ::getpid()) {
    pthread_attr_t attributes;
    void* lowest = nullptr;
    std::size_t size = 0;
    if (::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
      ::pthread_attr_getstack(&attributes, &lowest, &size);
      ::pthread_attr_destroy(&attributes);
    }
    if (size != 0) return {reinterpret_cast<std::uintptr_t>(lowest), size};
  }
  // The main thread's grows up to the limit. What lies above this frame is not much.
  rlimit limit{};
  ::getrlimit(RLIMIT_STACK, &limit);
  const std::size_t size = std::min<std::size_t>(limit.rlim_cur, std::size_t{8} << 20) / 2;
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  return {here > size ? here - size : 0, size};
}

const Stack& this_stack() noexcept {
  static thread_local const Stack stack = find_stack();
  return stack;
}

// A job on this thread's stack; or a loop's chunk, whose owner waits elsewhere.
struct Frame {
  const void* arena;
  Job* job;            // null: a chunk
  const Frame* owner;  // the frame of who waits for the loop; null: none
  const Frame* outer;  // below, on the same stack
};

// What this thread does.
struct Here {
  const void* arena = nullptr;  // whose seat it has; null outside of any
  int worker = 0;               // its number there
  const Frame* frames = nullptr;
  int nested = 0;  // jobs on its stack
};
constinit thread_local Here here;

class OnStack {
 public:
  explicit OnStack(const Frame& frame) noexcept : frame_(frame) {
    frame_.outer = std::exchange(here.frames, &frame_);
    ++here.nested;
  }
  ~OnStack() {
    here.frames = frame_.outer;
    --here.nested;
  }
  OnStack(const OnStack&) = delete;
  OnStack& operator=(const OnStack&) = delete;

 private:
  Frame frame_;
};

// The jobs that have not ended before this thread goes on: its own, and those that wait for its loops.
void collect(const Frame* frame, const void* arena, std::vector<Job*>& jobs) {
  for (; frame != nullptr; frame = frame->outer) {
    if (frame->job != nullptr && frame->arena == arena) jobs.push_back(frame->job);
    collect(frame->owner, arena, jobs);
  }
}

}  // namespace

bool Loop::work(int worker) {
  bool last = false;
  for (std::size_t chunk = next_.fetch_add(1); chunk < chunks_; chunk = next_.fetch_add(1)) {
    body_(chunk, worker);
    last = ended_.fetch_add(1) + 1 == goal_.load();
  }
  return last;
}

// The queue of jobs and the waits for them. Shared with the threads that drain it: a job may drop the last
// owner of its own pool.
class ThreadArena::Jobs final : public Visit, public std::enable_shared_from_this<Jobs> {
 public:
  explicit Jobs(int threads)
      : threads_(threads),
        spinners_allowed_(std::max(0, cpu_count() - 1)),
        workers_(threads, threads + spares),
        taken_(static_cast<std::size_t>(threads)) {}

  void post(std::shared_ptr<Job> job) {
    pushed_.fetch_add(1, std::memory_order_relaxed);
    Job& posted = *job;
    queue_.push(std::move(job));
    try {
      call_thread();
    } catch (...) {
      if (!posted.claim()) return;  // somebody has come
      dropped();
      fail_what_nobody_runs();
      throw;
    }
  }

  void dropped() noexcept {
    run_.fetch_add(1, std::memory_order_seq_cst);  // before the look at who waits: see notify()
    if (waiters_.load(std::memory_order_relaxed) > 0 && left() <= spared_.load()) notify();
  }

  // Runs jobs until there are none. For a thread that call_thread() asked for.
  void visit() override {
    const Place place(*this);
    do {
      while (run_one() || spin_for_jobs()) {
        if (give_way()) return;
      }
      drainers_.fetch_sub(1, std::memory_order_seq_cst);
      // A push from here on finds one drainer less and asks for one; one that came before is seen now.
    } while (has_work() && add_drainer());
  }

  // Blocks until every job that was pushed has run. A job that calls this does not wait for itself, nor for
  // other jobs that do the same.
  void wait_for_all() {
    std::vector<Job*> own;
    collect(here.frames, this, own);
    {
      const std::lock_guard lock(mutex_);
      for (Job* job : own) {
        if (job->spared_++ == 0) spared_.fetch_add(1);
      }
    }
    notify();
    const bool outside = own.empty();
    wait([&] { return left() <= (outside ? 0 : spared_.load()); }, {}, {});
    const std::lock_guard lock(mutex_);
    for (Job* job : own) {
      if (--job->spared_ == 0) spared_.fetch_sub(1);
    }
  }

  void run(const std::shared_ptr<Loop>& loop) {
    loop->owner_ = here.frames;
    const auto helpers = std::min(loop->chunks(), static_cast<std::size_t>(threads_));
    const auto finished = [&] { return loop->done(); };
    try {
      if (here.arena == this) {
        share(loop, helpers - 1);
        help(*loop, here.worker);
      } else if (add_drainer()) {
        const Guest guest(*this);
        share(loop, helpers - 1);
        help(*loop, here.worker);
        wait(finished, {}, {});
        return;
      } else {
        share(loop, helpers);  // all seats are taken
      }
    } catch (...) {
      loop->stop();
      wait(finished, {}, {});
      throw;
    }
    wait(finished, {}, {});
  }

  void help(Loop& loop, int worker) {
    if (loop.work(worker)) notify();
  }

  bool wait(const std::function<bool()>& done, const Deadline& deadline, const WaitFor& what) {
    if (done()) return true;
    const bool inside = here.arena == this;
    if (inside && what.run_it) {
      if (!may_nest()) {
        // Another thread is to run it, on a stack of its own.
      } else if (Job& job = *what.jobs.front(); job.claim()) {
        run_claimed(job);
      } else {
        job.help(here.worker);
      }
    }
    for (const auto until = now_ns() + spin_ns; now_ns() < until;) {
      if (done()) return true;
      if (deadline.passed()) return false;
      cpu_relax();
    }
    for (;;) {
      Job* const only_mine = sleep(done, deadline, what, inside);
      if (only_mine == nullptr) return done();
      if (!only_mine->claim()) continue;
      require_stack();
      run_claimed(*only_mine);
    }
  }

  void notify() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // what is waited for was published before this look
    if (waiters_.load(std::memory_order_relaxed) == 0) return;
    const std::lock_guard lock(mutex_);  // a waiter is either before its check or asleep
    // Only those whose wait is over: there may be hundreds.
    for (Waiter* waiter : asleep_) {
      if ((*waiter->done)()) waiter->woken.notify_one();
    }
  }

  WorkerThreads& workers() noexcept { return workers_; }

 private:
  // A thread in wait().
  struct Waiter {
    const std::function<bool()>* done;
    std::condition_variable woken;
  };

  // A seat's number, shared only if more threads go on than there are seats.
  class Number {
   public:
    explicit Number(Jobs& jobs) : jobs_(jobs) {
      const std::lock_guard lock(jobs_.mutex_);
      const auto fewest = std::min_element(jobs_.taken_.begin(), jobs_.taken_.end());
      ++*fewest;
      number_ = fewest - jobs_.taken_.begin();
    }
    ~Number() { change(-1); }
    void change(int by) noexcept {
      const std::lock_guard lock(jobs_.mutex_);
      jobs_.taken_[static_cast<std::size_t>(number_)] += by;
    }
    int value() const noexcept { return static_cast<int>(number_); }

   private:
    Jobs& jobs_;
    std::ptrdiff_t number_;
  };

  // The calling thread's seat. It is counted in drainers_ already.
  class Place : public task::Seat {
   public:
    explicit Place(Jobs& jobs) : jobs_(jobs), number_(jobs), before_(here) {
      here.arena = &jobs_;
      here.worker = number_.value();
    }
    ~Place() override { here = before_; }

    void leave() noexcept override {
      number_.change(-1);
      jobs_.stand_up();
    }
    void retake() noexcept override {
      jobs_.drainers_.fetch_add(1,
                                std::memory_order_seq_cst);  // also if all others are taken; see give_way()
      number_.change(+1);
    }

   protected:
    Jobs& jobs_;

   private:
    Number number_;
    Here before_;
  };

  // The seat of a thread of the program's, for a loop.
  class Guest final : public Place {
   public:
    using Place::Place;
    ~Guest() override {
      jobs_.stand_up();
      jobs_.fail_what_nobody_runs();
    }
  };

  // One thread more for a loop.
  class Share final : public Job {
   public:
    Share(Jobs& jobs, std::shared_ptr<Loop> loop) : jobs_(jobs), loop_(std::move(loop)) {}
    void run(int worker) override {
      if (loop_->next_.load() >= loop_->chunks()) return;  // its owner may be gone
      const OnStack chunk(Frame{&jobs_, nullptr, static_cast<const Frame*>(loop_->owner_), nullptr});
      jobs_.help(*loop_, worker);
    }
    void fail(std::exception_ptr) override {}

   private:
    Jobs& jobs_;
    std::shared_ptr<Loop> loop_;
  };

  void share(const std::shared_ptr<Loop>& loop, std::size_t threads) {
    for (; threads > 0; --threads) post(std::make_shared<Share>(*this, loop));
  }

  // Jobs that have not run to their end. `run` first: one that is pushed between the looks is left.
  std::size_t left() const noexcept {
    const auto run = run_.load();
    return pushed_.load() - run;
  }

  bool has_work() const { return !queue_.empty() || !urgent_.empty(); }

  // There is work: another thread comes, if a seat is free. Throws ResourceExhausted if it cannot be started.
  void call_thread() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // the push comes before the look at who drains
    const std::uint32_t before = starts_.load();
    if (before % 2 == 0 && drainers_.load() >= threads_ && starts_.load() == before) return;
    // One after the other: a seat that is counted for a thread which then cannot be started must not keep
    // others from the error.
    const std::lock_guard lock(start_mutex_);
    struct Attempt {
      explicit Attempt(std::atomic<std::uint32_t>& count) : starts(count) { starts.fetch_add(1); }
      ~Attempt() { starts.fetch_add(1); }
      Attempt(const Attempt&) = delete;
      Attempt& operator=(const Attempt&) = delete;
      std::atomic<std::uint32_t>& starts;
    } const attempt(starts_);
    if (!add_drainer()) return;
    try {
      // If all spare threads wait, the first that goes on looks at the queue.
      if (!workers_.call(shared_from_this())) drainers_.fetch_sub(1, std::memory_order_seq_cst);
    } catch (const std::system_error& error) {
      drainers_.fetch_sub(1, std::memory_order_seq_cst);
      throw ResourceExhausted(fmt::format(
          "start a thread of a pool of {}: {}. The system or its limits allow no more threads (see "
          "ulimit -u, and pids.max of the cgroup).",
          threads_, error.code().message()));
    }
  }
  void call_thread_if_possible() noexcept {
    try {
      call_thread();
    } catch (...) {  // also bad_alloc: those that run go on
    }
  }

  // Gives up a seat in drainers_.
  void stand_up() noexcept {
    drainers_.fetch_sub(1, std::memory_order_seq_cst);
    if (has_work()) call_thread_if_possible();
  }

  // What came while somebody else was thought to come for it. Only if there is no thread, and none can be
  // had.
  void fail_what_nobody_runs() noexcept {
    if (!has_work() || drainers_.load() != 0) return;
    try {
      call_thread();
    } catch (...) {
      const auto error = std::current_exception();
      std::shared_ptr<Job> job;
      while (drainers_.load() == 0 && workers_.alive() == 0 && pop(job)) {
        if (!job->claim()) continue;
        job->fail(error);
        dropped();
      }
    }
  }

  // A thread that went on when all seats were taken makes it right. Returns whether this one has to leave.
  bool give_way() noexcept {
    int drainers = drainers_.load(std::memory_order_relaxed);
    while (drainers > threads_) {
      if (drainers_.compare_exchange_weak(drainers, drainers - 1, std::memory_order_seq_cst)) return true;
    }
    return false;
  }

  bool add_drainer() noexcept {
    int drainers = drainers_.load(std::memory_order_relaxed);
    do {
      if (drainers >= threads_) return false;
    } while (!drainers_.compare_exchange_weak(drainers, drainers + 1, std::memory_order_seq_cst));
    return true;
  }

  bool pop(std::shared_ptr<Job>& job) { return urgent_.try_pop(job) || queue_.try_pop(job); }

  bool run_one() {
    std::shared_ptr<Job> job;
    if (!pop(job)) return false;
    if (job->claim()) run_claimed(*job);
    return true;
  }

  void run_claimed(Job& job) {
    {
      const OnStack frame(Frame{this, &job, nullptr, nullptr});
      job.run(here.worker);
    }
    dropped();
  }

  static bool may_nest() noexcept {
    return here.nested < max_nested && this_stack().left() > this_stack().size / 2;
  }
  void require_stack() const {
    if (this_stack().left() > least_stack) return;
    throw Error(fmt::format(
        "a task of a pool of {} threads waits for another one on top of {} that wait as well, and "
        "neither is another thread to be had nor stack left. Let a task submit the next one and end, "
        "or take the result by then().",
        threads_, here.nested));
  }

  // Sleeps until done() or the deadline: null. Or until one of the jobs has to be run by this thread, as no
  // other one does it.
  Job* sleep(const std::function<bool()>& done, const Deadline& deadline, const WaitFor& what, bool inside) {
    const auto waiting = [&] {  // for a thread
      if (!inside) return static_cast<Job*>(nullptr);
      const auto found =
          std::find_if(what.jobs.begin(), what.jobs.end(), [](Job* job) { return !job->claimed(); });
      return found != what.jobs.end() ? *found : nullptr;
    };
    if (Job* const job = waiting(); job != nullptr) {
      if (auto shared = job->shared(); shared != nullptr) urgent_.push(std::move(shared));
    }
    const task::SeatsLeft seats;
    for (int slices = 0;; ++slices) {
      Job* const job = waiting();
      if (job != nullptr && slices > 0) call_thread_if_possible();
      if (job != nullptr && !deadline.bounded()) {
        const bool nobody_comes = drainers_.load() == 0;
        if (nobody_comes || (what.jobs.size() == 1 && slices >= patience)) return job;
      }
      Waiter self{&done, {}};
      std::unique_lock lock(mutex_);
      const auto place = asleep_.insert(asleep_.end(), &self);
      waiters_.fetch_add(1);
      if (job != nullptr) {
        self.woken.wait_for(lock, std::min(slice, deadline.left()), done);
      } else if (deadline.bounded()) {
        self.woken.wait_for(lock, deadline.left(), done);
      } else {
        self.woken.wait(lock, done);
      }
      waiters_.fetch_sub(1);
      asleep_.erase(place);
      lock.unlock();
      if (done() || deadline.passed()) return nullptr;
    }
  }

  bool spin_for_jobs() {
    bool found = false;
    if (spinners_.fetch_add(1) < spinners_allowed_) {
      const auto until = now_ns() + spin_ns;
      do {
        for (int i = 0; i < 32 && !found; ++i) {
          found = has_work();
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
  WorkerThreads workers_;
  tbb::concurrent_queue<std::shared_ptr<Job>> queue_;
  tbb::concurrent_queue<std::shared_ptr<Job>> urgent_;  // in queue_ as well; somebody waits for them
  alignas(64) std::atomic<std::size_t> pushed_{0};      // jobs ever pushed
  alignas(64) std::atomic<std::size_t> run_{0};         // jobs ever run
  alignas(64) std::atomic<int> drainers_{0};  // seats that are taken, or about to be; more than threads_
                                              // while threads that waited go on
  alignas(64) std::atomic<int> spinners_{0};  // drainers that found the queue empty and look again
  alignas(64) std::atomic<int> waiters_{0};   // threads in asleep_; written under mutex_
  std::atomic<std::size_t> spared_{0};        // jobs that those in wait_for_all() belong to
  std::mutex start_mutex_;                    // held while a thread is called
  std::atomic<std::uint32_t> starts_{0};      // counts up under start_mutex_; odd while a thread is called
  std::mutex mutex_;
  std::list<Waiter*> asleep_;  // guarded by mutex_
  std::vector<int> taken_;     // by worker number: seats that have it; guarded by mutex_
};

class ThreadArena::Impl {
 public:
  explicit Impl(int threads) : threads_(threads), jobs_(std::make_shared<Jobs>(threads)) {}

  // When a pool is gone, nothing of it runs any more: the program may end or fork.
  ~Impl() { jobs_->workers().end(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // A fork of the process that made the arena has none of its threads.
  bool has_threads() const noexcept { return forks() == forks_; }

  Jobs& jobs() noexcept { return *jobs_; }
  task::CallbackThread& callbacks() noexcept { return callbacks_; }
  int size() const noexcept { return threads_; }

 private:
  int threads_;
  int forks_ = forks();
  std::shared_ptr<Jobs> jobs_;
  task::CallbackThread callbacks_;
};

ThreadArena::ThreadArena(int threads) : impl_(std::make_unique<Impl>(threads)) {}
ThreadArena::~ThreadArena() {
  if (!impl_->has_threads()) leave_behind(std::move(impl_));
}
void ThreadArena::post(std::shared_ptr<Job> job) { impl_->jobs().post(std::move(job)); }
void ThreadArena::dropped() { impl_->jobs().dropped(); }
void ThreadArena::for_each_chunk(std::size_t chunks, const Loop::Body& body) {
  run(std::make_shared<Loop>(chunks, std::ref(body)));
}
void ThreadArena::run(const std::shared_ptr<Loop>& loop) {
  if (loop->chunks() != 0) impl_->jobs().run(loop);
}
void ThreadArena::help(Loop& loop, int worker) { impl_->jobs().help(loop, worker); }
bool ThreadArena::wait(const std::function<bool()>& done, const Deadline& deadline, const WaitFor& what) {
  if (done()) return true;
  require_threads();
  return impl_->jobs().wait(done, deadline, what);
}
void ThreadArena::notify() { impl_->jobs().notify(); }
void ThreadArena::drain() {
  if (impl_->has_threads()) impl_->jobs().wait_for_all();
}
void ThreadArena::end_idle() {
  if (impl_->has_threads()) impl_->jobs().workers().end();
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
