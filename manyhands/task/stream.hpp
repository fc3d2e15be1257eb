#pragma once
// Stream<R>: the results of imap and imap_unordered, taken one by one while later items are being computed.
//
// It reads its input only as fast as results are taken, at most `window` tasks ahead, so that an endless
// input runs in constant memory. Ending the loop early drops what has not started.

#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "manyhands/task/async_result.hpp"

namespace manyhands {

namespace task {

template <class R>
class StreamSource {
 public:
  virtual ~StreamSource() = default;
  virtual std::optional<R> next() = 0;
};

enum class StreamOrder { input, completion };

// `submit()` sends the next item(s) and returns an AsyncResult<Result>, or nullopt at the end of the input;
// `emit` moves the values of a Result into a deque<R>.
template <class R, class Result, class Submit, class Emit>
class WindowSource final : public StreamSource<R> {
 public:
  WindowSource(Submit submit, Emit emit, std::size_t window, StreamOrder order, ProgressFunction progress)
      : submit_(std::move(submit)),
        emit_(std::move(emit)),
        window_(window),
        order_(order),
        report_(std::move(progress)) {}

  ~WindowSource() override {
    for (auto& pending : pending_) pending.cancel();
  }

  std::optional<R> next() override {
    while (values_.empty()) {
      fill();
      if (pending_.empty()) {
        ticker_.finish(progress());
        return std::nullopt;
      }
      const std::size_t chosen = order_ == StreamOrder::input ? 0 : first_ready();
      AsyncResult<Result> result = std::move(pending_[chosen]);
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(chosen));
      ++done_;
      ticker_.tick(progress());
      try {
        emit_(std::move(result).get(), values_);
      } catch (...) {
        ++failed_;
        throw;
      }
    }
    std::optional<R> value(std::move(values_.front()));
    values_.pop_front();
    return value;
  }

 private:
  void fill() {
    while (!ended_ && pending_.size() < window_) {
      std::optional<AsyncResult<Result>> next = submit_();
      if (!next) {
        ended_ = true;
      } else {
        pending_.push_back(std::move(*next));
      }
    }
  }
  std::size_t first_ready() {
    for (;;) {
      for (std::size_t i = 0; i < pending_.size(); ++i) {
        if (pending_[i].ready()) return i;
      }
      std::vector<StateBase*> states;
      for (const auto& pending : pending_) states.push_back(&pending.state_base());
      states.front()->wait_any(states, {});
    }
  }
  Progress progress() const {
    return {.done = done_,
            .total = ended_ ? std::optional<std::uint64_t>(done_ + pending_.size()) : std::nullopt,
            .failed = failed_,
            .elapsed = Duration(now_ns() - start_ns_)};
  }

  Submit submit_;
  Emit emit_;
  std::size_t window_;
  StreamOrder order_;
  ProgressFunction report_;
  ProgressTicker ticker_{report_};
  bool ended_ = false;                       // the input is
  std::deque<AsyncResult<Result>> pending_;  // in the order of the input
  std::deque<R> values_;                     // of a finished chunk, not yet taken
  std::uint64_t done_ = 0;                   // tasks
  std::uint64_t failed_ = 0;
  std::int64_t start_ns_ = now_ns();
};

}  // namespace task

// Input range; one thread. Must not outlive its executor, nor the input range if that was an lvalue.
template <class R>
class [[nodiscard]] Stream {
 public:
  explicit Stream(std::unique_ptr<task::StreamSource<R>> source) noexcept : source_(std::move(source)) {}

  // Blocks for the next result; nullopt at the end. Throws the exception of the task it would have come from;
  // the next call goes on behind it.
  std::optional<R> next() { return source_->next(); }

  class Iterator {
   public:
    using value_type = R;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;
    Iterator() = default;
    explicit Iterator(Stream& stream) : stream_(&stream), value_(stream.next()) {}
    R& operator*() const { return *value_; }
    Iterator& operator++() {
      value_ = stream_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !value_; }

   private:
    Stream* stream_ = nullptr;
    mutable std::optional<R> value_;
  };
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  std::unique_ptr<task::StreamSource<R>> source_;
};

}  // namespace manyhands
