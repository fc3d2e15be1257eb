#pragma once
// The untyped half of mpi::Pool: rank 0's queue and the batches under way, and the loop of the other ranks.
//
// A batch is a sequence of records {header, payload}: calls, the function of a map (once per rank and map),
// ranges of a map's items. It is answered by a sequence of results. Each message begins with a frame of fixed
// size, so that it is received without a probe; what does not fit follows in a second message of known size.
// Private to mpi::Pool.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/mpi/comm.hpp"
#include "manyhands/task/async_result.hpp"
#include "manyhands/wire/call.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::mpi::detail {

// How one call or one range of a map ended.
struct WorkResult {
  std::uint64_t first = 0;  // item of a map
  std::uint64_t count = 0;  // items
  int rank = 0;             // that ran it
  std::int64_t started_ns = 0;
  std::int64_t completed_ns = 0;  // on rank 0's clock
  bool is_error = false;
  ByteView payload;          // the packed value, or the results of a range
  std::exception_ptr error;  // if is_error
};

// Who wants the result of a call, or of the ranges of a map.
class WorkReceiver {
 public:
  virtual ~WorkReceiver() = default;
  virtual void deliver(const WorkResult& result) = 0;
  virtual void cancelled() = 0;  // it never ran
};

struct MapRequest {
  wire::Function thunk;
  MapOptions options;
  std::uint64_t count = 0;
  std::size_t item_size = 0;      // of plain items; 0: packed
  std::size_t result_size = 0;    // of plain results; 0: packed, or none
  std::vector<std::byte> items;   // one behind the other
  std::vector<std::size_t> ends;  // where packed items end
  std::vector<std::byte> state;   // the packed function
};

// Rank 0's side. One thread.
class PoolDriver {
 public:
  PoolDriver(const Comm& comm, bool driver_works, int prefetch);
  ~PoolDriver();
  PoolDriver(const PoolDriver&) = delete;
  PoolDriver& operator=(const PoolDriver&) = delete;

  void submit(const wire::Function& thunk, ByteView message, const CallOptions& options,
              std::shared_ptr<WorkReceiver> to);
  void start_map(MapRequest request, std::shared_ptr<WorkReceiver> to);
  // Drops what `receiver` waits for and has not started. Returns whether anything was dropped.
  bool cancel(const WorkReceiver* receiver);
  // Takes results that are there and hands out work. Does not block.
  void poll();
  // Until done(), or the deadline; runs tasks here meanwhile, before a deadline those that are likely to end
  // by then. Returns done().
  template <class Done>
  bool wait(Done done, const Deadline& deadline) {
    for (Backoff backoff; !done(); pause(backoff)) {
      poll();
      if (done()) break;
      if (work_here(deadline)) backoff = Backoff();
      if (deadline.passed()) return done();
    }
    return true;
  }
  // Waits for everything (or, with `drop`, what runs), and ends the other ranks' loops.
  void close(bool drop);
  bool closed() const noexcept { return closed_; }

 private:
  struct Impl;
  static void pause(Backoff& backoff) { backoff.pause(); }
  bool work_here(const Deadline& deadline);
  std::unique_ptr<Impl> impl_;
  bool closed_ = false;
};

// The loop of the other ranks: runs what rank 0 sends until it says that this is all.
void serve_pool(const Comm& over);

// ---- States.

template <class Base>
class DriverState : public Base, public WorkReceiver {
 public:
  explicit DriverState(std::shared_ptr<PoolDriver> driver) : driver_(std::move(driver)) {}
  void poll() override { driver_->poll(); }
  bool wait(const Deadline& deadline) override {
    return driver_->wait([this] { return this->ready(); }, deadline);
  }
  void wait_any(std::span<task::StateBase* const> states, const Deadline& deadline) override {
    driver_->wait(
        [states] {
          for (const auto* state : states) {
            if (state->ready()) return true;
          }
          return false;
        },
        deadline);
  }
  bool cancel(const CancelOptions&) override { return !this->ready() && driver_->cancel(this); }

 protected:
  Duration elapsed() const { return Duration((this->ready() ? completed_ns_ : now_ns()) - submitted_ns_); }
  TaskMetadata metadata_of(const WorkResult& result) const {
    const auto at = [](std::int64_t ns) { return TimePoint(std::chrono::nanoseconds(ns)); };
    return {.first = result.first,
            .count = result.count,
            .submitted = at(submitted_ns_),
            .started = at(result.started_ns),
            .completed = at(result.completed_ns),
            .engine = result.rank};
  }
  void completed() {
    completed_ns_ = now_ns();
    this->finish();
  }
  std::shared_ptr<PoolDriver> driver_;
  std::int64_t submitted_ns_ = now_ns();
  std::int64_t completed_ns_ = 0;
};

template <class R>
class PoolCall final : public DriverState<task::State<R>> {
 public:
  using DriverState<task::State<R>>::DriverState;
  void deliver(const WorkResult& result) override {
    task_ = this->metadata_of(result);
    failed_ = result.is_error;
    if (result.is_error) {
      this->error_ = result.error;
    } else {
      try {
        if constexpr (std::is_void_v<R>) {
          this->value_.emplace();
        } else {
          wire::Reader reader(result.payload);
          this->value_.emplace(wire::unpack<R>(reader));
        }
      } catch (...) {
        this->error_ = std::current_exception();
      }
    }
    this->completed();
  }
  void cancelled() override {
    this->error_ = std::make_exception_ptr(Cancelled("the task was cancelled before it started"));
    this->completed();
  }
  Progress progress() const override {
    return {
        .done = this->ready() ? 1U : 0U, .total = 1, .failed = failed_ ? 1U : 0U, .elapsed = this->elapsed()};
  }
  std::vector<TaskMetadata> metadata() const override { return {task_}; }

 private:
  TaskMetadata task_;
  bool failed_ = false;
};

// What maps share whatever they give. `Base` is a task::State.
template <class Base>
class DriverMap : public DriverState<Base> {
 public:
  DriverMap(std::shared_ptr<PoolDriver> driver, std::uint64_t count)
      : DriverState<Base>(std::move(driver)), count_(count) {}
  void deliver(const WorkResult& result) override {
    tasks_.push_back(this->metadata_of(result));
    if (this->ready()) return;  // failed before
    try {
      if (result.is_error) std::rethrow_exception(result.error);
      take_results(result);
    } catch (...) {
      fail(std::current_exception());
      return;
    }
    done_ += result.count;
    if (done_ == count_) end();
  }
  void cancelled() override {
    if (!this->ready()) fail(std::make_exception_ptr(Cancelled("the map was cancelled")));
  }
  Progress progress() const override {
    return {.done = done_,
            .total = count_,
            .failed = this->ready() && done_ < count_ ? 1U : 0U,
            .elapsed = this->elapsed()};
  }
  std::vector<TaskMetadata> metadata() const override {
    auto tasks = tasks_;
    std::sort(tasks.begin(), tasks.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    return tasks;
  }
  // All results are there. Once; by the pool itself for a map over nothing.
  void end() {
    set_value();
    this->completed();
  }

 protected:
  virtual void take_results(const WorkResult& result) = 0;
  virtual void set_value() = 0;
  std::uint64_t count_;

 private:
  void fail(std::exception_ptr error) {
    this->error_ = std::move(error);
    this->completed();
    this->driver_->cancel(this);
  }
  std::uint64_t done_ = 0;
  std::vector<TaskMetadata> tasks_;
};

template <class R>
class PoolMap final : public DriverMap<task::ItemsState<R>> {
 public:
  PoolMap(std::shared_ptr<PoolDriver> driver, std::uint64_t count)
      : DriverMap<task::ItemsState<R>>(std::move(driver), count), results_(count) {}
  std::size_t size() const override { return results_.size(); }
  void wait_item(std::size_t i) override {
    this->driver_->wait([this, i] { return this->ready() || results_[i].has_value(); }, {});
  }
  R item(std::size_t i) override {
    if (this->ready()) return this->value()[i];
    return *results_[i];
  }

 private:
  void take_results(const WorkResult& result) override {
    if constexpr (wire::Plain<R>) {
      if (result.payload.size() != result.count * sizeof(R))
        throw WireError("a rank answered with results of another size");
      for (std::uint64_t i = 0; i < result.count; ++i) {
        R value;
        std::memcpy(static_cast<void*>(&value), result.payload.data() + i * sizeof(R), sizeof(R));
        results_[result.first + i] = value;
      }
    } else {
      wire::Reader reader(result.payload);
      for (std::uint64_t i = 0; i < result.count; ++i)
        results_[result.first + i].emplace(wire::unpack<R>(reader));
    }
  }
  void set_value() override {
    std::vector<R> values;
    values.reserve(results_.size());
    for (auto& result : results_) values.push_back(std::move(*result));
    this->value_.emplace(std::move(values));
  }
  std::vector<std::optional<R>> results_;
};

template <>
class PoolMap<void> final : public DriverMap<task::State<void>> {
 public:
  using DriverMap::DriverMap;

 private:
  void take_results(const WorkResult&) override {}
  void set_value() override { value_.emplace(); }
};

}  // namespace manyhands::mpi::detail
