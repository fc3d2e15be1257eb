#pragma once
// The states behind a ThreadPool's AsyncResults, and the run of a map over chunks.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/task/async_result.hpp"
#include "manyhands/task/items.hpp"
#include "manyhands/task/this_task.hpp"
#include "manyhands/threads/arena.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands::threads {

// Throws DeadlineExceeded if a task of `index` that started at `started_ns` has passed its deadline.
void check_deadline(Duration deadline, std::int64_t started_ns, std::int64_t index);

// ---- What all states of a pool of threads share. `Base` is a task::State.
template <class Base>
class ArenaState : public Base, public Job {
 public:
  explicit ArenaState(std::shared_ptr<ThreadArena> arena) noexcept : arena_(std::move(arena)) {
    submitted_.released();
  }

  bool wait(const Deadline& deadline) override {
    if (this->ready()) return true;
    watched_.store(true);
    Job* const self = this;
    // One with a time limit would be late if this thread ran the job.
    return arena_->wait([this] { return this->ready(); }, deadline,
                        {.jobs = {&self, 1}, .run_it = !deadline.bounded()});
  }
  void wait_any(std::span<task::StateBase* const> states, const Deadline& deadline) override {
    std::vector<Job*> jobs;
    jobs.reserve(states.size());
    for (auto* state : states) {
      auto* const one = static_cast<ArenaState*>(state);
      one->watched_.store(true);
      jobs.push_back(one);
    }
    arena_->wait(
        [states] {
          for (const auto* state : states) {
            if (state->ready()) return true;
          }
          return false;
        },
        deadline, {.jobs = jobs});
  }
  std::shared_ptr<Job> shared() override { return {this->shared_from_this(), static_cast<Job*>(this)}; }

 protected:
  void dispatch(task::StateBase::Continuation continuation) override {
    arena_->callbacks().post(std::move(continuation));
  }
  // Whoever calls this holds the state: the queue's pointer to the job, or the user's.
  void end() {
    completed_ns_.store(now_ns());
    this->finish();  // seq_cst with the load: a waiter has set watched_ before its last look
    if (watched_.load()) arena_->notify();
  }
  Duration elapsed() const noexcept {
    const auto completed = completed_ns_.load();
    return Duration((completed != 0 ? completed : now_ns()) - submitted_ns_);
  }
  static TimePoint time_point(std::int64_t ns) noexcept { return TimePoint(std::chrono::nanoseconds(ns)); }

  std::shared_ptr<ThreadArena> arena_;  // shared: a result may be waited for after its pool is gone
  Handover submitted_;                  // from who submits to who runs it
  std::int64_t submitted_ns_ = now_ns();
  std::atomic<std::int64_t> completed_ns_{0};
  std::atomic<bool> watched_{false};  // somebody waits, or did
};

// ---- One call.
template <class R, class F, class... Args>
class ThreadCall final : public ArenaState<task::State<R>> {
 public:
  template <class... Given>
  ThreadCall(std::shared_ptr<ThreadArena> arena, const CallOptions& options, std::int64_t number, F f,
             Given&&... args)
      : ArenaState<task::State<R>>(std::move(arena)),
        deadline_(options.deadline),
        seed_(options.seed.value_or(0)),
        number_(number),
        f_(std::move(f)),
        args_(std::forward<Given>(args)...) {}

  void run(int worker) override {
    this->submitted_.acquired();
    started_ns_ = now_ns();
    worker_ = worker;
    const task::Context context{
        .stop = &stop_,
        .item = nullptr,
        .index = number_,
        .deadline_at_ns = deadline_ == Deadline::never ? INT64_MAX : started_ns_ + deadline_.count(),
        .attempt = 1,
        .worker = worker,
        .seed = seed_};
    const task::ContextScope scope(context);
    try {
      const auto call = [this](Args&... args) -> decltype(auto) { return wire::call_with(f_, args...); };
      if constexpr (std::is_void_v<R>) {
        std::apply(call, args_);
        this->value_.emplace();
      } else {
        this->value_.emplace(std::apply(call, args_));
      }
      check_deadline(deadline_, started_ns_, number_);
    } catch (...) {
      this->value_.reset();
      this->error_ = std::current_exception();
    }
    this->end();
  }

  void fail(std::exception_ptr error) override {
    this->error_ = std::move(error);
    this->end();
  }
  bool cancel(const CancelOptions&) override {
    if (this->claim()) {
      fail(std::make_exception_ptr(Cancelled("the task was cancelled before it started")));
      this->arena_->dropped();
      return true;
    }
    stop_.store(1);
    return false;
  }
  Progress progress() const override {
    return {.done = this->ready() ? 1U : 0U,
            .total = 1,
            .failed = this->ready() && this->error_ ? 1U : 0U,
            .elapsed = this->elapsed()};
  }
  std::vector<TaskMetadata> metadata() const override {
    TaskMetadata task{.submitted = this->time_point(this->submitted_ns_)};
    if (this->ready() && started_ns_ != 0) {
      task.started = this->time_point(started_ns_);
      task.completed = this->time_point(this->completed_ns_);
      task.engine = worker_;
    }
    return {std::move(task)};
  }

 private:
  std::atomic<std::uint32_t> stop_{0};
  Duration deadline_;
  std::uint64_t seed_;
  std::int64_t number_;
  std::int64_t started_ns_ = 0;  // written before finish(), read after
  int worker_ = -1;
  F f_;
  std::tuple<Args...> args_;
};

// ---- Maps.

// Results that are filled in any order: in place if R can be default-constructed, else one by one.
template <class R>
class Results {
 public:
  static constexpr bool in_place =
      std::is_default_constructible_v<R> && std::is_move_assignable_v<R> && !std::is_same_v<R, bool>;
  explicit Results(std::size_t count) : slots_(count) {}

  void set(std::size_t i, R&& value) { slots_[i] = std::move(value); }
  R get(std::size_t i) const
    requires std::is_copy_constructible_v<R>
  {
    if constexpr (in_place) {
      return slots_[i];
    } else {
      return *slots_[i];
    }
  }
  std::vector<R> take() {
    if constexpr (in_place) {
      return std::move(slots_);
    } else {
      std::vector<R> values;
      values.reserve(slots_.size());
      for (auto& slot : slots_) values.push_back(std::move(*slot));
      return values;
    }
  }

 private:
  std::vector<std::conditional_t<in_place, R, std::optional<R>>> slots_;
};
template <>
class Results<void> {
 public:
  explicit Results(std::size_t) {}
  void take() const noexcept {}
};

// The counters of a map that do not depend on its type.
class MapCounters {
 public:
  MapCounters(std::size_t items, int workers, const MapOptions& options);

  std::size_t chunks() const noexcept { return chunks_.size(); }
  std::size_t chunk_size() const noexcept { return chunk_size_; }
  std::size_t items() const noexcept { return items_; }
  void stop() noexcept { stop_.store(1); }
  Progress progress() const noexcept;
  bool chunk_done(std::size_t chunk) const noexcept {
    if (!chunks_[chunk].done.load(std::memory_order_acquire)) return false;
    computed_.acquired();
    return true;
  }
  std::vector<TaskMetadata> metadata() const;
  // Keeps the error of the lowest item, and stops the others.
  void fail(std::size_t item, std::exception_ptr error);
  // What was done in the chunks comes before what the caller does from now on.
  std::exception_ptr error() const;
  std::int64_t submitted_ns() const noexcept { return submitted_ns_; }

 protected:
  // Runs `compute(item)` for the items of a chunk, minding stop and deadline.
  template <class Compute>
  void run_items(std::size_t index, int worker, const Compute& compute);

 private:
  struct Chunk {
    std::int64_t started_ns = 0;
    std::int64_t completed_ns = 0;
    int worker = -1;
    std::atomic<bool> done{false};  // publishes the fields above and the results
  };

  std::size_t items_;
  std::size_t chunk_size_;
  Duration deadline_;
  std::uint64_t seed_;
  std::int64_t submitted_ns_ = now_ns();
  std::vector<Chunk> chunks_;
  std::atomic<std::uint32_t> stop_{0};
  std::atomic<std::size_t> done_items_{0};
  mutable std::mutex error_mutex_;
  std::exception_ptr error_;    // guarded by error_mutex_
  std::size_t error_item_ = 0;  // guarded by error_mutex_
  Handover started_;            // from who makes this to the chunks
  Handover computed_;           // from the chunks to who takes the results
};

template <class Compute>
void MapCounters::run_items(std::size_t index, int worker, const Compute& compute) {
  if (stop_.load(std::memory_order_relaxed) != 0) return;
  started_.acquired();
  Chunk& chunk = chunks_[index];
  chunk.started_ns = now_ns();
  chunk.worker = worker;
  const std::size_t begin = index * chunk_size_;
  const std::size_t end = std::min(items_, begin + chunk_size_);
  std::atomic<std::uint64_t> current{begin};
  task::Context context{.stop = &stop_,
                        .item = &current,
                        .index = -1,
                        .deadline_at_ns = INT64_MAX,
                        .attempt = 1,
                        .worker = worker,
                        .seed = seed_};
  const task::ContextScope scope(context);
  try {
    for (std::size_t i = begin; i < end; ++i) {
      if (stop_.load(std::memory_order_relaxed) != 0) {  // a hint; the error says what counts
        computed_.released();
        return;
      }
      current.store(i, std::memory_order_relaxed);  // read by this thread only
      if (deadline_ == Deadline::never) {
        compute(i);
      } else {
        const auto started = now_ns();
        context.deadline_at_ns = started + deadline_.count();
        compute(i);
        check_deadline(deadline_, started, static_cast<std::int64_t>(i));
      }
    }
  } catch (...) {
    fail(current.load(std::memory_order_relaxed), std::current_exception());
    return;
  }
  computed_.released();
  chunk.completed_ns = now_ns();
  done_items_.fetch_add(end - begin, std::memory_order_relaxed);
  chunk.done.store(true, std::memory_order_release);
}

// f over an array of items, chunk by chunk, in any threads.
template <class R, class F, class T>
class MapRun : public MapCounters {
 public:
  MapRun(const F& f, const T* items, std::size_t count, int workers, const MapOptions& options)
      : MapCounters(count, workers, options), f_(f), items_(items), results_(count) {}

  void run_chunk(std::size_t chunk, int worker) {
    run_items(chunk, worker, [this](std::size_t i) {
      if constexpr (std::is_void_v<R>) {
        compute(i);
      } else {
        results_.set(i, compute(i));
      }
    });
  }

  Results<R>& results() noexcept { return results_; }
  auto take() {
    if (const auto failure = error()) std::rethrow_exception(failure);
    return results_.take();
  }

 private:
  // f looks at the item where it lies; one that wants to change it gets a copy.
  R compute(std::size_t i) {
    if constexpr (std::is_invocable_r_v<R, const F&, const T&>) {
      return f_(items_[i]);
    } else {
      T item(items_[i]);
      return wire::call_with(f_, item);
    }
  }

  const F& f_;
  const T* items_;
  Results<R> results_;
};

template <class R>
using MapStateBase =
    std::conditional_t<std::is_void_v<R>, task::State<void>, task::ItemsState<task::Stored<R>>>;

template <class R, class F, class T>
class ThreadMap final : public ArenaState<MapStateBase<R>> {
 public:
  ThreadMap(std::shared_ptr<ThreadArena> arena, const MapOptions& options, F f, task::Items<T> items)
      : ArenaState<MapStateBase<R>>(arena),
        f_(std::move(f)),
        items_(std::move(items)),
        run_(f_, items_.data(), items_.size(), arena->size(), options),
        loop_(std::make_shared<Loop>(run_.chunks(), [this](std::size_t chunk, int worker) {
          run_.run_chunk(chunk, worker);
          if (item_watched_.load()) this->arena_->notify();
        })) {}

  void run(int) override {
    this->submitted_.acquired();
    try {
      this->arena_->run(loop_);
    } catch (...) {  // there are not enough threads
      run_.fail(SIZE_MAX, std::current_exception());
    }
    if (const auto error = run_.error()) {
      this->error_ = error;
    } else if constexpr (std::is_void_v<R>) {
      this->value_.emplace();
    } else {
      const std::lock_guard lock(results_mutex_);
      this->value_.emplace(run_.results().take());
      taken_ = true;
    }
    this->end();
  }

  void help(int worker) override { this->arena_->help(*loop_, worker); }
  void fail(std::exception_ptr error) override {
    run_.fail(SIZE_MAX, error);
    this->error_ = std::move(error);
    this->end();
  }
  bool cancel(const CancelOptions&) override {
    if (this->ready()) return false;
    run_.fail(SIZE_MAX, std::make_exception_ptr(Cancelled("the map was cancelled")));
    return true;
  }
  Progress progress() const override {
    auto progress = run_.progress();
    progress.elapsed = this->elapsed();
    return progress;
  }
  std::vector<TaskMetadata> metadata() const override { return run_.metadata(); }

  // Of task::ItemsState; not used where f returns nothing.
  std::size_t size() const { return items_.size(); }
  void wait_item(std::size_t i) {
    item_watched_.store(true);
    this->watched_.store(true);
    Job* const self = this;
    this->arena_->wait([this, i] { return this->ready() || run_.chunk_done(i / run_.chunk_size()); }, {},
                       {.jobs = {&self, 1}});
  }
  task::Stored<R> item(std::size_t i) {
    if constexpr (std::is_void_v<R>) {
      return {};
    } else {
      {
        const std::lock_guard lock(results_mutex_);
        if (!taken_ && run_.chunk_done(i / run_.chunk_size()) && !run_.error()) return run_.results().get(i);
      }
      this->wait({});
      return this->value()[i];
    }
  }

 private:
  F f_;
  task::Items<T> items_;
  MapRun<R, F, T> run_;
  const std::shared_ptr<Loop> loop_;
  std::atomic<bool> item_watched_{false};  // somebody waits for single items
  std::mutex results_mutex_;
  bool taken_ = false;  // the results are in value_; guarded by results_mutex_
};

}  // namespace manyhands::threads
