#pragma once
// Queue: a bounded first-in, first-out queue between any number of processes and threads, like
// multiprocessing.Queue.
//
//   mh::Queue<std::string> queue(100);
//   mh::Process p{[](mh::Queue<std::string> out) { out.put("hello"); }, queue};
//   std::string text = queue.get();
//
// Values are packed as a task's arguments are; small ones lie in the queue's cells, larger ones in blocks of
// their own, and handles (Array, Lock ...) stay handles. There is no feeder thread: when put() returns, the
// value is in the queue.
//
// Any participant may be killed at any moment: a value whose put() returned is taken by exactly one get(),
// unless the one that was taking it is killed. What a consumer has taken by get() is lost if it then crashes;
// what it has received by receive() comes back to the queue until it is acknowledged:
//
//   for (mh::Delivery<std::string>& text : queue.deliveries()) {
//     std::puts(text->c_str());
//     text.acknowledge();
//   }
//
// A get() that can never succeed, because this thread is the
// last one that knows the queue, is an Error, not a hang (shm/company.hpp).
//
// If a process is stopped (SIGSTOP) in the middle of an operation, others at the same end wait for it: at
// most 50 ms longer than they are allowed to, and try_put() and try_get() as long.
//
// Layout of the block: [ QueueState ][ cell 0 ] ... [ cell capacity - 1 ]. Two locks, one for each end; each
// operation becomes valid by one store (of head or tail), hence a lock whose owner was killed can simply be
// taken over.
//
// Copies are handles to the same queue. Any process, any thread.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <source_location>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/process/delivery_table.hpp"
#include "manyhands/process/message.hpp"
#include "manyhands/process/queue_cell.hpp"
#include "manyhands/process/shared_codec.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/company.hpp"
#include "manyhands/wire/codec.hpp"

namespace manyhands {

// put() into, or get() from, a queue that was closed; for get() only once it is empty.
class QueueClosed : public Error {
 public:
  using Error::Error;
};

namespace process {

// A message that was taken from a queue.
class TakenMessage {
 public:
  template <class T>
  T read() const {
    if (block_ != nullptr) {
      const wire::PacketView packet = open_message(block_->offset());
      wire::Reader reader(packet.message(), packet.buffers());
      return wire::unpack<T>(reader);
    }
    wire::Reader reader({small_, size_});
    return wire::unpack<T>(reader);
  }

 private:
  friend class QueueCore;
  void copy_from(const QueueCell& cell);

  std::byte small_[cell_message_bytes];
  std::uint32_t size_ = 0;
  shm::BlockPtr block_;  // of a message that is not small
};

// The queue itself, which knows no types.
class QueueCore {
 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::queue;
  QueueCore(std::size_t capacity, std::uint64_t type, std::string_view name);
  QueueCore(shm::BlockPtr block, std::uint64_t type);
  // Of a Pipe: who could end a wait for this queue.
  QueueCore(shm::BlockPtr block, std::uint64_t type, shm::Meeting meeting);

  // Returns whether the message was put in before the deadline.
  bool put(const wire::Writer& writer, const std::vector<shm::BlockPtr>& named, const Deadline& deadline,
           const std::source_location& where);
  // The same; with a receipt the value stays the queue's until it is acknowledged.
  bool get(TakenMessage& taken, const Deadline& deadline, const std::source_location& where,
           Receipt* receipt = nullptr);
  void acknowledge(const Receipt& receipt, const std::source_location& where);
  void give_back(const Receipt& receipt) noexcept;
  // Blocks until a get() would find something or the end of the queue, or the deadline.
  bool wait_for_message(const Deadline& deadline, const std::source_location& where);
  void close(const std::source_location& where);
  bool closed(const std::source_location& where) const;
  std::size_t size(const std::source_location& where) const;
  std::size_t capacity() const noexcept;
  void task_done(const std::source_location& where);
  bool join(const Deadline& deadline, const std::source_location& where);
  const shm::BlockPtr& block() const noexcept { return block_; }
  std::string describe() const;

 private:
  bool reclaim(bool at_once) noexcept;
  bool take_next(TakenMessage& taken, Receipt* receipt);
  template <class Ready>
  bool wait_until(Ready ready, shm::FutexWord& changes, shm::FutexWord& sleepers, const char* what,
                  const Deadline& deadline, const std::source_location& where);

  shm::BlockPtr block_;
  shm::Meeting meeting_;  // empty: those that have the queue itself
};
void close_queue(shm::Offset queue) noexcept;
[[noreturn]] void throw_timeout(const QueueCore& queue, bool full);
[[noreturn]] void throw_closed(const QueueCore& queue, bool put);

inline constexpr std::size_t queue_out_of_band_from = 4096;  // bytes

// Returns whether the value was put in before the deadline.
template <class T>
bool pack_into(QueueCore& queue, const T& value, const Deadline& deadline,
               const std::source_location& where) {
  wire::ThreadWriter writer(queue_out_of_band_from);
  std::vector<shm::BlockPtr> named;
  {
    shm::Parcel parcel;
    wire::pack(*writer, value);
    named = parcel.take();
  }
  return queue.put(*writer, named, deadline, where);
}

}  // namespace process

// A value that was received from a Queue, and stays the queue's until it is acknowledged: if this process
// ends before, however it does, or this object goes, another consumer gets the value. Then it is in the queue
// a second time: what it stands for may have been done already, in part or as a whole.
//
// Movable. Any thread of the process that received it, one at a time; a fork of that process has no part in
// it.
template <class T>
class [[nodiscard]] Delivery {
  using Where = std::source_location;

 public:
  Delivery(Delivery&& other) noexcept
      : core_(std::move(other.core_)),
        receipt_(other.receipt_),
        value_(std::move(other.value_)),
        held_(std::exchange(other.held_, false)) {}
  Delivery& operator=(Delivery&& other) noexcept {
    if (this == &other) return *this;
    give_back();
    core_ = std::move(other.core_);
    receipt_ = other.receipt_;
    value_ = std::move(other.value_);
    held_ = std::exchange(other.held_, false);
    return *this;
  }
  ~Delivery() { give_back(); }

  T& operator*() noexcept { return value_; }
  const T& operator*() const noexcept { return value_; }
  T* operator->() noexcept { return &value_; }
  const T* operator->() const noexcept { return &value_; }

  // How often the value was received, this time included: above 1, somebody had it before and gave it back,
  // or ended.
  std::uint32_t attempt() const noexcept { return receipt_.attempt; }

  // The value is done with and leaves the queue; join() counts it as task_done() does, which need not be
  // called. Does nothing a second time. Error in a fork of the process that received it.
  void acknowledge(const Where& where = Where::current()) {
    if (!held_) return;
    core_.acknowledge(receipt_, where);
    held_ = false;
  }
  // Another consumer shall have it, before those that were never received. The destructor does this, too.
  void give_back() noexcept {
    if (std::exchange(held_, false)) core_.give_back(receipt_);
  }

 private:
  template <class>
  friend class Queue;
  Delivery(const process::QueueCore& core, const process::Receipt& receipt,
           const process::TakenMessage& message)
      : core_(core), receipt_(receipt), value_(message.read<T>()), held_(true) {}

  process::QueueCore core_;
  process::Receipt receipt_;
  T value_;
  bool held_;
};

template <class T>
class Queue {
  static_assert(
      wire::Packable<T>,
      "values of this type cannot travel between processes: make it an aggregate of packable members, or "
      "specialise manyhands::wire::Codec<T>");
  using Where = std::source_location;

 public:
  static constexpr shm::BlockKind block_kind = shm::BlockKind::queue;

  // A queue for up to `capacity` values; Error if that is 0 or more than 2^24. 128 bytes of memory each.
  explicit Queue(std::size_t capacity = 16'384, std::string_view name = {}) : core_(capacity, type(), name) {}
  explicit Queue(shm::BlockPtr block) : core_(std::move(block), type()) {}

  // Puts a copy of `value` at the end; blocks while the queue is full. Throws Timeout if it is full for that
  // long (Python's queue.Full), QueueClosed.
  void put(const T& value, TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    if (!process::pack_into(core_, value, Deadline(timeout), where)) process::throw_timeout(core_, true);
  }
  // Does not wait for room; returns whether there was some.
  [[nodiscard]] bool try_put(const T& value, const Where& where = Where::current()) {
    return process::pack_into(core_, value, Deadline(Duration(0)), where);
  }

  // Takes the first value; blocks while there is none. Throws Timeout if none comes for that long
  // (queue.Empty), QueueClosed once the queue is closed and empty.
  T get(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    process::TakenMessage message;
    if (!core_.get(message, Deadline(timeout), where)) process::throw_timeout(core_, false);
    return message.template read<T>();
  }
  // Does not wait for a value; nullopt if there is none.
  [[nodiscard]] std::optional<T> try_get(const Where& where = Where::current()) {
    process::TakenMessage message;
    if (!core_.get(message, Deadline(Duration(0)), where)) return std::nullopt;
    return message.template read<T>();
  }

  // As get() and try_get(), but the value is only lent until it is acknowledged: see Delivery. receive()
  // throws QueueClosed once the queue is closed and empty, and no other process has values that it may give
  // back; ResourceExhausted if 1024 deliveries are out.
  Delivery<T> receive(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    auto delivery = receive_until(Deadline(timeout), where);
    if (!delivery) process::throw_timeout(core_, false);
    return std::move(*delivery);
  }
  [[nodiscard]] std::optional<Delivery<T>> try_receive(const Where& where = Where::current()) {
    return receive_until(Deadline(Duration(0)), where);
  }

  // No more values will be put in: what is in the queue can still be taken, then get() throws QueueClosed.
  void close(const Where& where = Where::current()) { core_.close(where); }
  [[nodiscard]] bool closed(const Where& where = Where::current()) const { return core_.closed(where); }

  // For consumers of a queue that somebody join()s: one value that was taken is done with. Error if none is
  // left.
  void task_done(const Where& where = Where::current()) { core_.task_done(where); }
  // Blocks until every value that was put in is done with; false if `timeout` passed before.
  bool join(TimeLimit timeout = Deadline::never, const Where& where = Where::current()) {
    return core_.join(Deadline(timeout), where);
  }

  // Of the moment; others may change it before the caller looks at it.
  std::size_t size(const Where& where = Where::current()) const { return core_.size(where); }
  bool empty(const Where& where = Where::current()) const { return size(where) == 0; }
  bool full(const Where& where = Where::current()) const { return size(where) >= capacity(); }
  std::size_t capacity() const noexcept { return core_.capacity(); }

  // Takes one value after the other, as Queue::get() or Queue::receive() does, until the queue is closed and
  // empty.
  template <class Element, Element (Queue::*take)(TimeLimit, const Where&)>
  class Iterator {
   public:
    using value_type = Element;
    using difference_type = std::ptrdiff_t;
    Element& operator*() const noexcept { return *value_; }
    Iterator& operator++() {
      value_.reset();  // before others can have it: what was not acknowledged goes back
      next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) noexcept {
      return !it.value_.has_value();
    }

   private:
    friend class Queue;
    explicit Iterator(Queue& queue) : queue_(&queue) { next(); }
    void next() {
      try {
        value_.emplace((queue_->*take)(Deadline::never, Where::current()));
      } catch (const QueueClosed&) {
        value_.reset();
      }
    }
    Queue* queue_;
    mutable std::optional<Element> value_;
  };

  // for (const T& value : queue): takes values until the queue is closed and empty.
  Iterator<T, &Queue::get> begin() { return Iterator<T, &Queue::get>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  // for (mh::Delivery<T>& delivery : queue.deliveries()): receives values until the queue is closed and
  // empty, and nobody else may give one back. What the loop's body does not acknowledge goes back to the
  // queue.
  class Deliveries {
   public:
    auto begin() { return Iterator<Delivery<T>, &Queue::receive>(*queue_); }
    std::default_sentinel_t end() const noexcept { return {}; }

   private:
    friend class Queue;
    explicit Deliveries(Queue& queue) : queue_(&queue) {}
    Queue* queue_;
  };
  Deliveries deliveries() { return Deliveries(*this); }

  const shm::BlockPtr& block() const noexcept { return core_.block(); }

 private:
  static std::uint64_t type() noexcept { return shm::element_type(sizeof(T), alignof(T), typeid(T).name()); }

  std::optional<Delivery<T>> receive_until(const Deadline& deadline, const Where& where) {
    process::TakenMessage message;
    process::Receipt receipt;
    if (!core_.get(message, deadline, where, &receipt)) return std::nullopt;
    try {
      return Delivery<T>(core_, receipt, message);
    } catch (...) {
      core_.give_back(receipt);
      throw;
    }
  }

  process::QueueCore core_;
};

}  // namespace manyhands
