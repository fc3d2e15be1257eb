#pragma once
// The shared state behind an AsyncResult: what executors fill and users wait for.
//
// An executor derives from State<T>, implements wait() in its own way (threads help, a process pool looks
// into shared memory), and calls finish() exactly once. Shared by the user's AsyncResult and the executor,
// hence shared_ptr: either may be gone first.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/handover.hpp"
#include "manyhands/task/options.hpp"

namespace manyhands {

using TimePoint = std::chrono::steady_clock::time_point;

// One task, or one chunk of a map, as it was run. Times are of the machine that ran it.
struct TaskMetadata {
  std::uint64_t first = 0;  // index of the first item of the chunk; 0 for apply
  std::uint64_t count = 1;  // items
  TimePoint submitted{};
  TimePoint started{};       // TimePoint{} as long as it has not
  TimePoint completed{};     // TimePoint{} as long as it has not
  std::int32_t engine = -1;  // number of the worker that ran it, -1 if none did yet
  std::uint32_t attempt = 1;
  std::string std_out = {};  // what the task printed, where the executor captures it; local pools do not
  std::string std_err = {};
};

// DeadlineExceeded: a task ran longer than its CallOptions::deadline.
class DeadlineExceeded : public Timeout {
 public:
  using Timeout::Timeout;
};

namespace task {

class StateBase : public std::enable_shared_from_this<StateBase> {
 public:
  using Continuation = std::function<void()>;

  StateBase() { outcome_.released(); }  // made by who submits: that comes before what follows the outcome
  StateBase(const StateBase&) = delete;
  StateBase& operator=(const StateBase&) = delete;
  virtual ~StateBase();

  // Whether the outcome is known; all that led to it is visible then. Any thread.
  bool ready() const noexcept {
    if (continuations_.load(std::memory_order_acquire) != finished()) return false;
    outcome_.acquired();
    return true;
  }
  // Gives the executor a chance to notice an outcome, without blocking. Any thread.
  virtual void poll() {}
  // Blocks until ready or the deadline; returns ready(). Any thread.
  virtual bool wait(const Deadline& deadline) = 0;
  // Blocks until one of `states`, all of this state's executor, is ready, or the deadline. Any thread.
  virtual void wait_any(std::span<StateBase* const> states, const Deadline& deadline) = 0;
  // Drops the task if it has not started, asks it to end if it runs. Returns whether it will have no result.
  virtual bool cancel(const CancelOptions&) { return false; }
  // The same, and true ever after: a task that was cancelled stays so. Any thread.
  bool cancel_for_good(const CancelOptions& options) {
    if (cancelled_.load()) return true;
    if (!cancel(options)) return false;
    cancelled_.store(true);
    return true;
  }
  virtual Progress progress() const { return {.done = ready() ? 1U : 0U, .total = 1}; }
  virtual std::vector<TaskMetadata> metadata() const { return {}; }

  // Runs `continuation` once the outcome is known: now, in this thread, if it is; else where the executor
  // runs callbacks. It must not throw.
  void on_ready(Continuation continuation);

 protected:
  // Makes the outcome known. Exactly once, by the executor, after the outcome is in place.
  void finish();
  // Where a continuation runs; by default in the thread that calls finish().
  // NOLINTNEXTLINE(performance-unnecessary-value-param): those that override it keep the continuation
  virtual void dispatch(Continuation continuation) { continuation(); }
  // Someone registered the first continuation: the outcome must be noticed though nobody may be waiting.
  virtual void expect_continuation() {}
  // The caller comes after the outcome; ready() says so, too.
  void comes_after_outcome() const noexcept { outcome_.acquired(); }

 private:
  struct Node {
    Continuation run;  // holds an Errand
    Node* next;
  };
  static Node* finished() noexcept { return reinterpret_cast<Node*>(std::uintptr_t{1}); }

  // The continuations, last first; finished() once the outcome is known. Release by finish(), acquire by
  // ready().
  std::atomic<Node*> continuations_{nullptr};
  std::atomic<bool> cancelled_{false};  // cancel() has returned true
  Handover outcome_;
};

template <class T>
using Stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class T>
class State : public StateBase {
 public:
  // Requires ready(). The value; throws the task's exception if there is none. Any thread.
  const Stored<T>& value() {
    settle();
    if (error_) std::rethrow_exception(error_);
    return *value_;
  }
  // Requires ready(). As value(), moved out; later calls see a moved-from value.
  Stored<T> take() {
    settle();
    if (error_) std::rethrow_exception(error_);
    return std::move(*value_);
  }
  // Requires ready(). The task's exception, null if it has a value.
  std::exception_ptr error() {
    settle();
    return error_;
  }

 protected:
  // Sets value_ or error_, for executors that keep the outcome packed until it is asked for; may throw, which
  // becomes the error. Called once, in the thread of whoever asks first.
  virtual void decode() {}

  std::optional<Stored<T>> value_;
  std::exception_ptr error_;

 private:
  // As std::call_once, without its system call: results are asked for by the hundred thousand.
  void settle() {
    this->comes_after_outcome();  // also a continuation, which did not ask ready()
    if (settled_.load(std::memory_order_acquire) == Settled::yes) return;
    auto expected = Settled::no;
    if (!settled_.compare_exchange_strong(expected, Settled::at_it, std::memory_order_acquire)) {
      while (settled_.load(std::memory_order_acquire) != Settled::yes) std::this_thread::yield();
      return;
    }
    if (!value_ && !error_) {
      try {
        decode();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    settled_.store(Settled::yes,
                   std::memory_order_release);  // publishes value_ or error_ to the other askers
  }
  enum class Settled : std::uint8_t { no, at_it, yes };
  std::atomic<Settled> settled_{Settled::no};
};

// A map's state, whose items can be looked at before all are there.
template <class R>
class ItemsState : public State<std::vector<R>> {
 public:
  virtual std::size_t size() const = 0;
  // Blocks until item i is computed, or the whole map is ready (perhaps with an error). Any thread.
  virtual void wait_item(std::size_t i) = 0;
  // Requires wait_item(i). Item i; throws the map's error if it has no item i.
  virtual R item(std::size_t i) = 0;
};

// A state that is filled by hand: of coroutines and continuations.
//
// What is filled once another state is ready (by then()) waits by way of that one, its source: a thread of a
// pool runs other tasks meanwhile, and Ctrl-C is seen. The source is null if there is none, or no more.
class ManualWait {
 public:
  using Source = std::shared_ptr<StateBase>;
  void notify();
  bool wait(const StateBase& state, const Source& source, const Deadline& deadline);
  static void wait_any(std::span<StateBase* const> states, std::span<const Source> sources,
                       const Deadline& deadline);
};

template <class T>
class LocalState final : public State<T> {
 public:
  LocalState() = default;
  // To be filled once `source` is ready, whose continuation does it and keeps the source until then.
  explicit LocalState(const std::shared_ptr<StateBase>& source) : source_(source) {}

  void set_value(Stored<T> value) {
    this->value_.emplace(std::move(value));
    done();
  }
  void set_error(std::exception_ptr error) {
    this->error_ = std::move(error);
    done();
  }
  void poll() override {
    if (const auto source = source_.lock()) source->poll();
  }
  bool wait(const Deadline& deadline) override { return wait_.wait(*this, source_.lock(), deadline); }
  void wait_any(std::span<StateBase* const> states, const Deadline& deadline) override {
    std::vector<ManualWait::Source> sources;
    for (const auto* state : states) sources.push_back(static_cast<const LocalState*>(state)->source_.lock());
    ManualWait::wait_any(states, sources, deadline);
  }
  bool cancel(const CancelOptions& options) override {
    const auto source = source_.lock();
    return source != nullptr && source->cancel_for_good(options);
  }

 private:
  void done() {
    this->finish();
    wait_.notify();
  }
  ManualWait wait_;
  std::weak_ptr<StateBase> source_;
};

}  // namespace task
}  // namespace manyhands
