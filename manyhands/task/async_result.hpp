#pragma once
// AsyncResult<T>: the result of a task that may still be running, on whichever executor.
//
// Python's multiprocessing.AsyncResult and std::future in one: get, wait, ready, successful, cancel, then,
// progress and times; iteration over a map's items as they arrive; co_await, and as the return type of a
// coroutine. Dropping it drops the interest in the result, not the task.

#include <coroutine>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "manyhands/task/state.hpp"

namespace manyhands {

template <class T>
class AsyncResult;

namespace task {

[[noreturn]] void throw_timeout(const Progress& progress, TimeLimit timeout);
[[noreturn]] void throw_not_ready();
[[noreturn]] void throw_empty();
Duration serial_time(const std::vector<TaskMetadata>& tasks);
Duration wall_time(const std::vector<TaskMetadata>& tasks);

template <class T>
struct ItemOf {};
template <class R>
struct ItemOf<std::vector<R>> {
  using Type = R;
};

// Calls f with the value of a finished state, or without one for void.
template <class F, class T>
decltype(auto) call_then(F& f, State<T>& state) {
  if constexpr (std::is_void_v<T>) {
    static_cast<void>(state.value());
    return f();
  } else {
    return f(state.value());
  }
}

template <class T>
class Promise;

}  // namespace task

// Values are shared: copies of an AsyncResult refer to the same outcome. Any thread, each copy in one.
template <class T>
class [[nodiscard]] AsyncResult {
 public:
  using value_type = T;
  using promise_type = task::Promise<T>;

  AsyncResult() = default;  // refers to nothing; every verb but valid() throws Error
  explicit AsyncResult(std::shared_ptr<task::State<T>> state) noexcept : state_(std::move(state)) {}

  // Blocks until the outcome is known, at most `timeout`. Returns the value; throws the task's own exception
  // (with its RemoteError nested if it ran elsewhere), Cancelled, WorkerDied, DeadlineExceeded, or Timeout if
  // the time is over, in which case the task goes on.
  decltype(auto) get(TimeLimit timeout = Deadline::never) & {
    wait_or_throw(timeout);
    if constexpr (std::is_void_v<T>) {
      static_cast<void>(state_->value());
    } else {
      return state_->value();  // const T&, valid while this result lives
    }
  }
  T get(TimeLimit timeout = Deadline::never) && {
    wait_or_throw(timeout);
    if constexpr (std::is_void_v<T>) {
      static_cast<void>(state_->take());
    } else {
      return state_->take();
    }
  }

  // Blocks until the outcome is known, at most `timeout`. Returns whether it is.
  bool wait(TimeLimit timeout = Deadline::never) const { return state().wait(Deadline(timeout)); }

  // Whether the outcome is known. Does not block.
  bool ready() const {
    if (!state().ready()) state().poll();
    return state().ready();
  }

  // Whether the task ended without an exception. Throws Error if it has not ended.
  bool successful() const {
    if (!ready()) task::throw_not_ready();
    return state_->error() == nullptr;
  }

  // Drops the task if it has not started: get() throws Cancelled. A running task is asked to end
  // (this_task::stop_requested()), with {.kill = true} its worker process is killed. Returns whether there
  // will be no result; false if the task had ended or goes on. Does not block.
  bool cancel(const CancelOptions& options = {}) { return state().cancel_for_good(options); }

  // Calls f with the value (f() for void) once it is there, and returns f's result as an AsyncResult of its
  // own. If the task fails, f is not called and the exception is passed on; `on_error(std::exception_ptr)`,
  // if given, sees it first. f runs in the executor's callback thread, or at once in this one if the outcome
  // is known; it should not block.
  template <class F>
  auto then(F f) {
    return then(std::move(f), [](const std::exception_ptr&) {});
  }
  template <class F, class OnError>
  auto then(F f, OnError on_error) {
    using U = std::decay_t<decltype(task::call_then(f, state()))>;
    auto next = std::make_shared<task::LocalState<U>>(state_);
    auto source = state_;
    source->on_ready([f = std::move(f), on_error = std::move(on_error), next, source]() mutable {
      try {
        if (const auto error = source->error()) {
          on_error(error);
          next->set_error(error);
        } else if constexpr (std::is_void_v<U>) {
          task::call_then(f, *source);
          next->set_value({});
        } else {
          next->set_value(task::call_then(f, *source));
        }
      } catch (...) {
        next->set_error(std::current_exception());
      }
    });
    return AsyncResult<U>(std::move(next));
  }

  // How many items are done. Does not block.
  Progress progress() const { return state().progress(); }
  // One entry per task or chunk, in the order of their items.
  std::vector<TaskMetadata> metadata() const { return state().metadata(); }
  // Since submission, until the outcome was known.
  Duration elapsed() const { return state().progress().elapsed; }
  // The sum of the times that the tasks ran: about what one core would have needed.
  Duration serial_time() const { return task::serial_time(state().metadata()); }
  // From the submission to the end of the last task.
  Duration wall_time() const { return task::wall_time(state().metadata()); }

  bool valid() const noexcept { return state_ != nullptr; }
  task::StateBase& state_base() const { return state(); }

  // The items of a map in order, each as soon as it is computed: for (double y : pool.map_async(f, xs)).
  // Blocks for the next item; throws the map's exception where it has none.
  auto begin() const
    requires requires { typename task::ItemOf<T>::Type; }
  {
    return Iterator<typename task::ItemOf<T>::Type>(state_);
  }
  std::default_sentinel_t end() const
    requires requires { typename task::ItemOf<T>::Type; }
  {
    return {};
  }

  // co_await gives what get() would, and resumes in the executor's callback thread.
  auto operator co_await() && { return Awaiter<T>{std::move(state_)}; }
  auto operator co_await() & { return Awaiter<std::add_lvalue_reference_t<const T>>{state_}; }

 private:
  template <class R>
  class Iterator {
   public:
    using value_type = R;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(std::shared_ptr<task::State<std::vector<R>>> state) : state_(std::move(state)) {
      items_ = dynamic_cast<task::ItemsState<R>*>(state_.get());
      if (items_ == nullptr) state_->wait({});  // the vector that a single task returned
    }
    R operator*() const {
      if (items_ == nullptr) return state_->value()[index_];
      items_->wait_item(index_);
      return items_->item(index_);
    }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    void operator++(int) { ++index_; }
    bool operator==(std::default_sentinel_t) const {
      return index_ == (items_ != nullptr ? items_->size() : state_->value().size());
    }

   private:
    std::shared_ptr<task::State<std::vector<R>>> state_;
    task::ItemsState<R>* items_;  // state_ as a map's, null if it is none
    std::size_t index_ = 0;
  };

  template <class Value>  // T, or a reference to the one that stays in the state
  struct Awaiter {
    std::shared_ptr<task::State<T>> state;
    bool await_ready() const { return state->ready(); }
    void await_suspend(std::coroutine_handle<> handle) {
      const auto keep = state;  // this awaiter may be gone before on_ready returns
      keep->on_ready([handle] { handle.resume(); });
    }
    Value await_resume() {
      if constexpr (std::is_void_v<T>) {
        static_cast<void>(state->take());
      } else if constexpr (std::is_reference_v<Value>) {
        return state->value();
      } else {
        return state->take();
      }
    }
  };

  task::State<T>& state() const {
    if (state_ == nullptr) task::throw_empty();
    return *state_;
  }
  void wait_or_throw(TimeLimit timeout) {
    if (!state().wait(Deadline(timeout))) task::throw_timeout(state_->progress(), timeout);
  }

  std::shared_ptr<task::State<T>> state_;
};

namespace task {

template <class T>
class PromiseBase {
 public:
  AsyncResult<T> get_return_object() { return AsyncResult<T>(state_); }
  std::suspend_never initial_suspend() const noexcept { return {}; }
  std::suspend_never final_suspend() const noexcept { return {}; }
  void unhandled_exception() { state_->set_error(std::current_exception()); }

 protected:
  std::shared_ptr<LocalState<T>> state_ = std::make_shared<LocalState<T>>();
};

// Makes AsyncResult<T> the return type of coroutines, which run at once until their first co_await.
template <class T>
class Promise : public PromiseBase<T> {
 public:
  template <class U>
  void return_value(U&& value) {
    this->state_->set_value(std::forward<U>(value));
  }
};
template <>
class Promise<void> : public PromiseBase<void> {
 public:
  void return_void() { this->state_->set_value({}); }
};

}  // namespace task
}  // namespace manyhands
