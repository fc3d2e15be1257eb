#pragma once
// The states behind a Pool's AsyncResults: typed at the user's side, bytes at the crew's.

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/base/mutex.hpp"
#include "manyhands/process/crew.hpp"
#include "manyhands/shm/array.hpp"
#include "manyhands/task/async_result.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands::process {

TimePoint time_point(std::int64_t ns) noexcept;
std::vector<TaskMetadata> metadata_of(const std::vector<ChunkRun>& runs, std::int64_t submitted_ns);

// What all states of a pool share: waiting for the crew, and telling it of continuations. `Base` is a
// task::State.
template <class Base>
class CrewState : public Base {
 public:
  explicit CrewState(std::shared_ptr<Crew> crew) noexcept : crew_(std::move(crew)) {}

  void poll() override { crew_->poll(); }
  bool wait(const Deadline& deadline) override {
    return this->ready() || crew_->wait([this] { return this->ready(); }, deadline);
  }
  void wait_any(std::span<task::StateBase* const> states, const Deadline& deadline) override {
    const auto any_ready = [states] {
      for (const auto* state : states) {
        if (state->ready()) return true;
      }
      return false;
    };
    if (crew_->options().start != Start::fork) {
      crew_->wait(any_ready, deadline);
      return;
    }
    // Each call has a crew of its own there, which wakes only who waits for it.
    while (!any_ready() && !deadline.passed()) {
      for (auto* state : states) state->poll();
      const auto slice = std::min<Duration>(deadline.left(), std::chrono::milliseconds(1));
      crew_->wait(any_ready, Deadline(slice));
    }
  }

 protected:
  void dispatch(task::StateBase::Continuation continuation) override {
    crew_->run_callback(std::move(continuation));
  }
  void expect_continuation() override {
    crew_->want_results(+1);
    wanted_.store(true);
    if (this->ready()) want_no_more();
  }
  void completed() {
    completed_ns_.store(now_ns());
    this->finish();
    want_no_more();
  }
  Duration elapsed() const noexcept {
    const auto end = completed_ns_.load();
    return Duration((end != 0 ? end : now_ns()) - submitted_ns_);
  }

  std::shared_ptr<Crew> crew_;  // the result may be waited for as long as it lives
  std::int64_t submitted_ns_ = now_ns();
  std::atomic<std::int64_t> completed_ns_{0};

 private:
  void want_no_more() {
    if (wanted_.exchange(false)) crew_->want_results(-1);
  }
  std::atomic<bool> wanted_{false};  // the crew was told that a continuation waits
};

// ---- One call.

template <class R>
class PoolCall final : public CrewState<task::State<R>>, public PendingCall {
  using Base = CrewState<task::State<R>>;

 public:
  using Base::Base;

  bool cancel(const CancelOptions& options) override {
    const auto handle = handle_.load();
    return !this->ready() && this->crew_->cancel({.cell = static_cast<std::uint32_t>(handle),
                                                  .generation = static_cast<std::uint32_t>(handle >> 32)},
                                                 options);
  }
  Progress progress() const override {
    return {.done = this->ready() ? 1U : 0U,
            .total = 1,
            .failed = this->ready() && (outcome_.is_error || outcome_.error) ? 1U : 0U,
            .elapsed = this->elapsed()};
  }
  std::vector<TaskMetadata> metadata() const override {
    TaskMetadata task{.submitted = time_point(this->submitted_ns_)};
    if (this->ready()) {
      task.started = time_point(outcome_.started_ns);
      task.completed = time_point(outcome_.completed_ns);
      task.engine = outcome_.place.worker;
      task.attempt = outcome_.place.attempt;
    }
    return {std::move(task)};
  }

 private:
  void queued(CallHandle handle) override {
    handle_.store((std::uint64_t{handle.generation} << 32) | handle.cell);
  }
  void deliver(Outcome outcome) override { outcome_ = std::move(outcome); }
  void complete() override { this->completed(); }
  void decode() override {
    if (outcome_.is_error || outcome_.error) {
      this->error_ = outcome_.exception();
    } else if constexpr (std::is_void_v<R>) {
      this->value_.emplace();
    } else {
      outcome_.payload.read([this](wire::Reader& reader) { this->value_.emplace(wire::unpack<R>(reader)); });
    }
    outcome_.payload = {};
  }

  std::atomic<std::uint64_t> handle_{0};  // CallHandle
  Outcome outcome_;                       // written before finish(), read after
};

// ---- Maps.

// The parts of a map's state that do not depend on its type.
template <class Base>
class CrewMapState : public CrewState<Base>, public PendingMap {
 public:
  CrewMapState(std::shared_ptr<Crew> crew, std::uint64_t items, std::uint64_t chunk_size)
      : CrewState<Base>(std::move(crew)), items_(items), chunk_size_(chunk_size) {}

  // Once, by the pool, before anyone else sees the state.
  void started(const MapHandle& handle) { handle_ = handle; }

  bool cancel(const CancelOptions& options) override {
    return !this->ready() && this->crew_->cancel(handle_, options);
  }
  Progress progress() const override {
    if (!this->ready())
      return {.done = std::min(this->crew_->items_done(handle_), items_),
              .total = items_,
              .elapsed = this->elapsed()};
    return {.done = failure_ ? items_done() : items_,
            .total = items_,
            .failed = failure_ ? 1U : 0U,
            .elapsed = this->elapsed()};
  }
  std::vector<TaskMetadata> metadata() const override {
    return this->ready() ? metadata_of(chunks_, this->submitted_ns_) : std::vector<TaskMetadata>();
  }

 protected:
  void deliver_end(std::optional<Outcome> failure, SharedBlock output,
                   std::vector<ChunkRun> chunks) override {
    failure_ = std::move(failure);
    output_ = std::move(output);
    chunks_ = std::move(chunks);
    failed_.store(failure_.has_value());
  }
  void complete() override { this->completed(); }
  bool take_failure() {
    if (failure_) this->error_ = failure_->exception();
    return failure_.has_value();
  }
  std::uint64_t items_done() const {
    std::uint64_t done = 0;
    for (const auto& chunk : chunks_) done += chunk.completed_ns != 0 ? chunk.count : 0;
    return done;
  }

  std::uint64_t items_;
  std::uint64_t chunk_size_;
  MapHandle handle_;
  // Written by deliver_end(), read once ready.
  std::optional<Outcome> failure_;
  SharedBlock output_;
  std::vector<ChunkRun> chunks_;
  std::atomic<bool> failed_{false};  // before the results' memory is given back
};

// Functions that return nothing.
class PoolMapVoid final : public CrewMapState<task::State<void>> {
 public:
  using CrewMapState::CrewMapState;

 private:
  void deliver_item(std::uint64_t, Payload) override {}
  bool has_item(std::uint64_t) const override { return false; }
  void decode() override {
    if (!take_failure()) value_.emplace();
  }
};

template <class R>
void append_plain(std::vector<R>& out, const std::byte* from, std::uint64_t count) {
  if constexpr (std::is_same_v<R, bool>) {
    for (std::uint64_t i = 0; i < count; ++i) out.push_back(from[i] != std::byte{0});
  } else {
    const auto* first = reinterpret_cast<const R*>(from);  // blocks are aligned to 64
    out.insert(out.end(), first, first + count);
  }
}

// Results that lie as an array in shared memory.
template <class R>
class PoolMapPlain final : public CrewMapState<task::ItemsState<R>> {
  using Base = CrewMapState<task::ItemsState<R>>;

 public:
  using Base::Base;

  // While it waits, it copies out what is there already.
  bool wait(const Deadline& deadline) override {
    if (this->items_ * sizeof(R) < collect_from) return Base::wait(deadline);
    return this->ready() ||
           this->crew_->wait([this] { return this->ready(); }, deadline, [this] { return collect(); });
  }

  std::size_t size() const override { return this->items_; }
  void wait_item(std::size_t i) override {
    const auto done = [this, i] {
      return this->ready() || this->crew_->item_done(this->handle_, i, this->chunk_size_);
    };
    if (done()) return;
    this->crew_->watch_items(this->handle_, +1);
    this->crew_->wait(done, {});
    this->crew_->watch_items(this->handle_, -1);
  }
  R item(std::size_t i) override {
    if (!this->ready()) {
      R item;
      std::memcpy(static_cast<void*>(&item), this->handle_.output + i * sizeof(R), sizeof(R));
      // A map that failed meanwhile may have given its memory back before the copy.
      if (!this->failed_.load()) return item;
      this->wait({});
    }
    return this->value()[i];
  }

 private:
  static constexpr std::uint64_t collect_from = std::uint64_t{1} << 20;  // bytes of all results
  static constexpr std::uint64_t step = std::uint64_t{256} << 10;        // bytes at a time

  bool collect() {
    const std::unique_lock lock(collecting_, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    std::uint64_t end = collected_.size();
    while (end < this->items_ && (end - collected_.size()) * sizeof(R) < step &&
           this->crew_->item_done(this->handle_, end, this->chunk_size_)) {
      end = std::min(this->items_, (end / this->chunk_size_ + 1) * this->chunk_size_);
    }
    if (end == collected_.size()) return false;
    reserve();
    append_plain(collected_, this->handle_.output + collected_.size() * sizeof(R), end - collected_.size());
    return true;
  }
  void reserve() {
    if (collected_.capacity() >= this->items_) return;
    collected_.reserve(this->items_);
    if constexpr (!std::is_same_v<R, bool>)
      wire::detail::advise_huge_pages(collected_.data(), this->items_ * sizeof(R));
  }

  void deliver_item(std::uint64_t, Payload) override {}
  bool has_item(std::uint64_t) const override { return false; }
  void decode() override {
    if (this->take_failure()) return;
    const std::lock_guard lock(collecting_);
    reserve();
    append_plain(collected_, this->output_.data() + collected_.size() * sizeof(R),
                 this->items_ - collected_.size());
    this->value_.emplace(std::move(collected_));
    this->output_.reset();
  }

  std::mutex collecting_;
  std::vector<R> collected_;  // the first results; guarded by collecting_
};

// Results that the workers write into the caller's Array.
template <class R>
class PoolMapInto final : public CrewMapState<task::State<Array<R>>> {
  using Base = CrewMapState<task::State<Array<R>>>;

 public:
  PoolMapInto(std::shared_ptr<Crew> crew, std::uint64_t items, std::uint64_t chunk_size,
              const Array<R>& results)
      : Base(std::move(crew), items, chunk_size), results_(results) {}

 private:
  void deliver_item(std::uint64_t, Payload) override {}
  bool has_item(std::uint64_t) const override { return false; }
  void decode() override {
    if (!this->take_failure()) this->value_.emplace(results_);
  }

  Array<R> results_;
};
// Throws Error unless there are as many places as items.
void require_room(std::uint64_t items, std::uint64_t places);

// Results that come packed, one message each.
template <class R>
class PoolMapPacked final : public CrewMapState<task::ItemsState<R>> {
  using Base = CrewMapState<task::ItemsState<R>>;

 public:
  PoolMapPacked(std::shared_ptr<Crew> crew, std::uint64_t items, std::uint64_t chunk_size)
      : Base(std::move(crew), items, chunk_size), payloads_(items), here_(items) {}

  std::size_t size() const override { return this->items_; }
  void wait_item(std::size_t i) override {
    this->crew_->wait([this, i] { return this->ready() || here_[i].load(std::memory_order_acquire); }, {});
  }
  R item(std::size_t i) override {
    if (this->ready() && !here_[i].load(std::memory_order_acquire))
      return std::move(this->take()[i]);  // throws the map's error
    return payloads_[i].read([](wire::Reader& reader) { return wire::unpack<R>(reader); });
  }

 private:
  void deliver_item(std::uint64_t item, Payload payload) override {
    if (here_[item].load(std::memory_order_relaxed)) return;
    payloads_[item] = std::move(payload);
    here_[item].store(true, std::memory_order_release);  // pairs with wait_item()
  }
  bool has_item(std::uint64_t item) const override { return here_[item].load(std::memory_order_relaxed); }
  void decode() override {
    if (this->take_failure()) return;
    std::vector<R> results;
    results.reserve(this->items_);
    for (const auto& payload : payloads_)
      results.push_back(payload.read([](wire::Reader& reader) { return wire::unpack<R>(reader); }));
    this->value_.emplace(std::move(results));
  }

  std::vector<Payload> payloads_;  // written under the crew's mutex, read where here_ is true
  std::vector<std::atomic<bool>> here_;
};

template <class R>
struct PoolMapOf {
  using Type = std::conditional_t<wire::Plain<R>, PoolMapPlain<R>, PoolMapPacked<R>>;
};
template <>
struct PoolMapOf<void> {
  using Type = PoolMapVoid;
};
template <class R>
using PoolMap = typename PoolMapOf<R>::Type;

// The state of a map over nothing.
template <class Value>
std::shared_ptr<task::State<Value>> empty_map_state() {
  auto state = std::make_shared<task::LocalState<Value>>();
  state->set_value({});
  return state;
}

// Collects packed items and writes them into one block: an array of PackedItem, then the packets.
class PackedItems {
 public:
  // What the writer has borrowed must stay until write(); its copies are taken over.
  void add(wire::Writer& writer);
  SharedBlock write(Crew& crew) const;

 private:
  struct Item {
    std::size_t message_begin;
    std::size_t message_size;
    std::size_t buffers_begin;
    std::size_t buffer_count;
    std::size_t packet_size;
  };
  std::vector<Item> items_;
  std::vector<std::byte> messages_;
  std::vector<ByteView> buffers_;
  std::vector<wire::Writer::Copy> copies_;
};

}  // namespace manyhands::process
