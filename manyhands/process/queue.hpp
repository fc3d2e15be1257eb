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
// unless the one that was taking it is killed. A get() that can never succeed, because this thread is the
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
#include <vector>

#include "manyhands/base/clock.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/process/message.hpp"
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

inline constexpr std::size_t cell_message_bytes = 112;

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
  bool get(TakenMessage& taken, const Deadline& deadline, const std::source_location& where);
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

  // for (const T& value : queue): takes values until the queue is closed and empty.
  class Iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    const T& operator*() const noexcept { return *value_; }
    Iterator& operator++() {
      value_ = next(*queue_);
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) noexcept {
      return !it.value_.has_value();
    }

   private:
    friend class Queue;
    explicit Iterator(Queue& queue) : queue_(&queue), value_(next(queue)) {}
    static std::optional<T> next(Queue& queue) {
      try {
        return queue.get();
      } catch (const QueueClosed&) {
        return std::nullopt;
      }
    }
    Queue* queue_;
    std::optional<T> value_;
  };
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  const shm::BlockPtr& block() const noexcept { return core_.block(); }

 private:
  static std::uint64_t type() noexcept { return shm::element_type(sizeof(T), alignof(T), typeid(T).name()); }

  process::QueueCore core_;
};

}  // namespace manyhands
