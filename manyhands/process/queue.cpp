#include "manyhands/process/queue.hpp"

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>

#include "manyhands/base/cores.hpp"
#include "manyhands/process/queue_cell.hpp"
#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/lock_graph.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/shm/race.hpp"
#include "manyhands/shm/schedule.hpp"
#include "manyhands/shm/short_lock.hpp"

namespace manyhands::process {
namespace {

// One end of the queue, on cache lines of its own.
struct alignas(64) End {
  shm::ShortLock lock;      // for who moves `position`
  shm::FutexWord changes;   // counts up when sleepers at the other end shall look again
  shm::FutexWord sleepers;  // 1: somebody sleeps until this end moves. Whoever wakes them sets it to 0
  std::atomic<std::uint64_t> position;  // values that ever passed this end; release by its mover
};

struct QueueState {
  std::uint64_t capacity;  // constant
  std::array<char, 40> name;
  std::atomic<std::uint32_t> closed;
  End tail;                                     // where values are put
  End head;                                     // where they are taken
  alignas(64) std::atomic<std::uint64_t> done;  // by task_done(); what is acknowledged is done, too
  std::atomic<shm::Offset> deliveries;          // the table of those; 0: nobody has called receive() yet
  shm::FutexWord joins;
  shm::FutexWord join_sleepers;
};

constexpr std::size_t cells_at = (sizeof(QueueState) + 127) / 128 * 128;
constexpr std::size_t max_capacity = std::size_t{1} << 24;
constexpr Duration longest_slice = std::chrono::milliseconds(50);
constexpr std::int64_t spin_ns = 30'000;  // about what waking a sleeper costs

QueueState& state_at(shm::Offset queue) noexcept { return shm::at<QueueState>(queue); }
QueueCell& cell_at(shm::Offset queue, std::uint64_t position) noexcept {
  return reinterpret_cast<QueueCell*>(shm::address_of_block(queue) +
                                      cells_at)[position % state_at(queue).capacity];
}

// nullptr if nobody has ever received with acknowledgement.
DeliveryTable* deliveries_of(const QueueState& state) noexcept {
  const shm::Offset table = state.deliveries.load(std::memory_order_acquire);
  return table != 0 ? &shm::at<DeliveryTable>(table) : nullptr;
}
DeliveryTable& deliveries_made(QueueState& state) {
  if (DeliveryTable* const there = deliveries_of(state)) return *there;
  shm::Offset none = 0;
  const shm::Offset made = shm::allocate(sizeof(DeliveryTable), shm::BlockKind::raw);
  if (!state.deliveries.compare_exchange_strong(none, made)) shm::release(made);
  return *deliveries_of(state);
}

// Values that are in their cells.
std::uint64_t queued(const QueueState& state) noexcept {
  const auto head = state.head.position.load(std::memory_order_acquire);
  const auto tail = state.tail.position.load(std::memory_order_acquire);
  return tail > head ? tail - head : 0;
}
// And those that were received and given back.
std::uint64_t size_of(const QueueState& state) noexcept {
  const DeliveryTable* const deliveries = deliveries_of(state);
  return queued(state) + (deliveries != nullptr ? deliveries->returned() : 0);
}
std::uint64_t done_of(const QueueState& state) noexcept {
  const DeliveryTable* const deliveries = deliveries_of(state);
  return state.done.load(std::memory_order_acquire) +
         (deliveries != nullptr ? deliveries->acknowledged() : 0);
}
bool is_closed(const QueueState& state) noexcept { return state.closed.load(std::memory_order_acquire) != 0; }
// Whether there is nothing to take, and never will be: for the calling process, which need not wait for what
// others have received if they may wait for what it has received itself.
bool is_over(const QueueState& state) noexcept {
  if (!is_closed(state)) return false;
  const DeliveryTable* const deliveries = deliveries_of(state);
  const bool may_come_back = deliveries != nullptr && deliveries->held() == DeliveryTable::Held::by_others;
  return !may_come_back && size_of(state) == 0;
}

// Whether this thread has the end, before the deadline: but if another has it, some time is given to that
// one.
bool take_end(End& end, const Deadline& deadline) noexcept {
  return end.lock.try_lock_until(deadline.left() < longest_slice ? Deadline(longest_slice) : deadline);
}

// What the race detector has to know. What was done before a put() comes before what follows the get() of it;
// what was done before a get() or task_done() comes before what follows the put() that had to wait for it,
// and a join().
void note_released(shm::Offset queue, shm::race::Part part) noexcept {
  if (shm::watching_races()) [[unlikely]]
    shm::race::released(queue, part);
}
void note_acquired(shm::Offset queue, shm::race::Part part) noexcept {
  if (shm::watching_races()) [[unlikely]]
    shm::race::acquired(queue, part);
}
constexpr auto of_puts = shm::race::Part::first;
constexpr auto of_gets = shm::race::Part::second;

void wake(shm::FutexWord& changes, shm::FutexWord& sleepers) noexcept {
  std::atomic_thread_fence(
      std::memory_order_seq_cst);  // what changed comes before this look; see wait_until()
  if (sleepers.load(std::memory_order_relaxed) == 0) return;
  sleepers.store(0, std::memory_order_relaxed);
  changes.fetch_add(1, std::memory_order_release);
  shm::futex_wake_all(changes);  // of several, those that find nothing say again that they sleep
}

// What nobody has taken when the last handle goes.
const bool tidies = [] {
  shm::on_last_release(shm::BlockKind::queue, [](shm::Offset queue) {
    const QueueState& state = state_at(queue);
    const auto head = state.head.position.load();
    const auto tail = state.tail.position.load();
    const auto drop = [](const QueueCell& cell) {
      if (cell.message != 0) shm::release(cell.message);
    };
    for (auto at = head; at < tail; ++at) drop(cell_at(queue, at));
    if (DeliveryTable* const deliveries = deliveries_of(state)) {
      deliveries->mend(head);
      deliveries->for_each(drop);
      shm::release(state.deliveries.load());
    }
  });
  return true;
}();

// Says to the scheduler that explores the program what is to be done, and lets it choose when; false if it
// chose that the time is over first. Without one, a point.
template <class Ready>
bool announce(shm::OpKind kind, shm::Offset queue, const Ready& ready, const Deadline& deadline,
              const std::source_location& where) {
  shm::Scheduler* const scheduler = shm::current_scheduler();
  if (scheduler == nullptr) {
    shm::point(kind, queue, where);
    return true;
  }
  const shm::Operation operation{kind, queue, shm::intern(where)};
  const shm::Readiness readiness{[](const void* f) { return (*static_cast<const Ready*>(f))(); }, &ready};
  if (deadline.bounded()) return scheduler->step_or_time_out(operation, readiness);
  scheduler->step(operation, readiness);
  return true;
}

}  // namespace

QueueCore::QueueCore(std::size_t capacity, std::uint64_t type, std::string_view name) {
  static_cast<void>(tidies);
  if (capacity == 0 || capacity > max_capacity)
    throw Error(
        fmt::format("mh::Queue: a capacity of {} values; it must be 1 to {}", capacity, max_capacity));
  block_ = shm::Block::create(cells_at + capacity * sizeof(QueueCell), block_kind);
  shm::header_of(block_->offset()).type = type;
  QueueState& state = state_at(block_->offset());
  state.capacity = capacity;
  std::copy_n(name.data(), std::min(name.size(), state.name.size() - 1), state.name.data());
}

QueueCore::QueueCore(shm::BlockPtr block, std::uint64_t type) : block_(std::move(block)) {
  if (shm::header_of(block_->offset()).type != type)
    throw Error(fmt::format("{} holds values of another type than this mh::Queue", describe()));
}

QueueCore::QueueCore(shm::BlockPtr block, std::uint64_t type, shm::Meeting meeting)
    : QueueCore(std::move(block), type) {
  meeting_ = std::move(meeting);
}

std::string QueueCore::describe() const {
  if (!meeting_.doors.empty())
    return fmt::format("pipe connection {}", shm::header_of(meeting_.doors.front()).number);
  const QueueState& state = state_at(block_->offset());
  if (state.name[0] != '\0') return fmt::format("Queue '{}'", state.name.data());
  return fmt::format("Queue {}", shm::header_of(block_->offset()).number);
}

// Blocks until ready() or the deadline. `changes` is counted up by who makes it ready, if `sleepers` is set.
template <class Ready>
bool QueueCore::wait_until(Ready ready, shm::FutexWord& changes, shm::FutexWord& sleepers, const char* what,
                           const Deadline& deadline, const std::source_location& where) {
  if (ready()) return true;
  if (deadline.passed()) {
    shm::sweep_now_and_then();  // who only looks, too, shall see that the last other end is gone
    reclaim(false);
    return ready();
  }
  static const bool can_spin = cpu_count() > 1;
  if (can_spin) {
    const std::int64_t until = now_ns() + spin_ns;
    do {
      for (int i = 0; i < 64; ++i) {
        if (ready()) return true;
        shm::cpu_relax();
      }
      ::sched_yield();  // the other side may want this core
    } while (now_ns() < until);
  }
  shm::WaitScope waiting(block_->offset(), shm::intern(where), {.bounded = deadline.bounded()});
  shm::Company company(*block_, deadline, meeting_);
  for (;;) {
    const std::uint32_t seen = changes.load(std::memory_order_acquire);
    sleepers.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // said before the last look; see wake()
    if (ready()) return true;
    if (deadline.passed()) return false;
    // Bounded: a woken one may have been killed before it could take what it was woken for.
    const auto why = shm::futex_wait(changes, seen, Deadline(std::min(deadline.left(), longest_slice)));
    if (ready()) return true;
    if (why != shm::WakeReason::timed_out) continue;
    waiting.look();
    reclaim(false);
    if (!company.is_gone()) continue;
    reclaim(true);
    if (ready()) return true;
    throw Error(fmt::format(
        "{} on {} would wait for ever: no other process or thread has it any more, or all that do "
        "wait as well",
        what, describe()));
  }
}

bool QueueCore::put(const wire::Writer& writer, const std::vector<shm::BlockPtr>& named,
                    const Deadline& deadline, const std::source_location& where) {
  const shm::Offset queue = block_->offset();
  QueueState& state = state_at(queue);
  const ByteView small = writer.bytes();
  shm::BlockPtr message;
  if (small.size() > cell_message_bytes || !writer.buffers().empty() || !named.empty())
    message = make_message(small, writer.buffers(), named);
  const auto ready = [&state] { return queued(state) < state.capacity || is_closed(state); };
  if (!announce(shm::OpKind::put, queue, ready, deadline, where)) return false;
  for (;;) {
    if (!ready() && !wait_until(ready, state.head.changes, state.head.sleepers,
                                meeting_.doors.empty() ? "put()" : "send()", deadline, where))
      return false;
    if (is_closed(state)) throw_closed(*this, true);
    if (!take_end(state.tail, deadline)) return false;
    const std::lock_guard guard(state.tail.lock, std::adopt_lock);
    const auto tail = state.tail.position.load(std::memory_order_relaxed);
    if (tail - state.head.position.load(std::memory_order_acquire) >= state.capacity) continue;
    if (tail >= state.capacity) note_acquired(queue, of_gets);  // which made the room, whoever waited for it
    QueueCell& cell = cell_at(queue, tail);
    if (message != nullptr) {
      cell.message = message->offset();
      shm::add_ref(message->offset());  // the queue's
    } else {
      cell.message = 0;
      cell.size = static_cast<std::uint32_t>(small.size());
      std::memcpy(cell.small, small.data(), small.size());
    }
    note_released(queue, of_puts);
    state.tail.position.store(tail + 1, std::memory_order_release);  // from here on the value is in the queue
    break;
  }
  wake(state.tail.changes, state.tail.sleepers);
  return true;
}

// Gives back what processes had received that have ended, now and then; returns whether there is anything.
bool QueueCore::reclaim(bool at_once) noexcept {
  QueueState& state = state_at(block_->offset());
  DeliveryTable* const deliveries = deliveries_of(state);
  if (deliveries == nullptr || !(at_once || deliveries->is_time_to_look())) return false;
  if (!take_end(state.head, Deadline(Duration(0)))) return false;
  {
    const std::lock_guard guard(state.head.lock, std::adopt_lock);
    deliveries->mend(state.head.position.load(std::memory_order_relaxed));
    if (!deliveries->reclaim()) return false;
    note_released(block_->offset(), of_puts);
  }
  wake(state.tail.changes, state.tail.sleepers);
  return true;
}

void TakenMessage::copy_from(const QueueCell& cell) {
  if (cell.message != 0) {
    block_ = shm::Block::attach(cell.message, shm::BlockKind::message);
  } else {
    size_ = std::min<std::uint32_t>(cell.size, cell_message_bytes);
    std::memcpy(small_, cell.small, size_);
  }
}

// Takes the next value, if there is one. Requires the head's lock. With a receipt it stays in the table.
bool QueueCore::take_next(TakenMessage& taken, Receipt* receipt) {
  const shm::Offset queue = block_->offset();
  QueueState& state = state_at(queue);
  DeliveryTable* const deliveries = receipt != nullptr ? &deliveries_made(state) : deliveries_of(state);
  const auto head = state.head.position.load(std::memory_order_relaxed);
  if (deliveries != nullptr) {
    deliveries->mend(head);
    if (const auto returned = deliveries->first_returned()) {
      const shm::Offset message = deliveries->cell(*returned).message;
      taken.copy_from(deliveries->cell(*returned));  // ours before it leaves the table
      if (receipt != nullptr) {
        *receipt = deliveries->receive_again(*returned);
        return true;
      }
      deliveries->remove(*returned);
      if (message != 0) shm::release(message);  // the queue's reference
      return true;
    }
  }
  if (state.tail.position.load(std::memory_order_acquire) == head) return false;
  const QueueCell& cell = cell_at(queue, head);
  const shm::Offset message = cell.message;
  taken.copy_from(cell);
  if (receipt != nullptr) {
    const auto entered = deliveries->begin_receive(cell, head);
    if (!entered) {
      throw ResourceExhausted(
          fmt::format("receive() from {}: {} values of it are received and not yet acknowledged; no more are "
                      "kept track of",
                      describe(), DeliveryTable::most));
    }
    *receipt = *entered;
  }
  note_released(queue, of_gets);
  state.head.position.store(head + 1, std::memory_order_release);  // from here on the value is ours
  if (receipt != nullptr) {
    deliveries->end_receive();
  } else if (message != 0) {
    shm::release(message);
  }
  return true;
}

bool QueueCore::get(TakenMessage& taken, const Deadline& deadline, const std::source_location& where,
                    Receipt* receipt) {
  const shm::Offset queue = block_->offset();
  QueueState& state = state_at(queue);
  const auto ready = [&state] { return size_of(state) > 0 || is_over(state); };
  if (!announce(shm::OpKind::get, queue, ready, deadline, where)) return false;
  const char* const verb = receipt != nullptr ? "receive()" : meeting_.doors.empty() ? "get()" : "recv()";
  for (;;) {
    if (!ready() && !wait_until(ready, state.tail.changes, state.tail.sleepers, verb, deadline, where))
      return false;
    if (!take_end(state.head, deadline)) return false;
    const std::lock_guard guard(state.head.lock, std::adopt_lock);
    if (take_next(taken, receipt)) break;
    if (!is_over(state)) continue;
    note_acquired(queue, of_puts);
    throw_closed(*this, false);
  }
  note_acquired(queue, of_puts);
  wake(state.head.changes, state.head.sleepers);
  return true;
}

void QueueCore::acknowledge(const Receipt& receipt, const std::source_location& where) {
  const shm::Offset queue = block_->offset();
  QueueState& state = state_at(queue);
  shm::point(shm::OpKind::set, queue, where);
  DeliveryTable* const deliveries = deliveries_of(state);
  note_released(queue, of_gets);
  {
    const std::lock_guard guard(state.head.lock);
    if (deliveries != nullptr) deliveries->mend(state.head.position.load(std::memory_order_relaxed));
    if (deliveries == nullptr || !deliveries->holds(receipt)) {
      throw Error(
          fmt::format("acknowledge() of a value from {} that another process has received: a copy of a "
                      "process made by fork() does not take its deliveries over",
                      describe()));
    }
    const shm::Offset message = deliveries->cell(receipt.slot).message;
    deliveries->acknowledge(receipt);
    if (message != 0) shm::release(message);
  }
  if (is_closed(state)) wake(state.tail.changes, state.tail.sleepers);  // who waits whether it comes back
  if (done_of(state) >= state.tail.position.load(std::memory_order_acquire))
    wake(state.joins, state.join_sleepers);
}

void QueueCore::give_back(const Receipt& receipt) noexcept {
  const shm::Offset queue = block_->offset();
  QueueState& state = state_at(queue);
  DeliveryTable* const deliveries = deliveries_of(state);
  if (deliveries == nullptr) return;
  note_released(queue, of_puts);
  {
    const std::lock_guard guard(state.head.lock);
    deliveries->mend(state.head.position.load(std::memory_order_relaxed));
    if (!deliveries->holds(receipt)) return;
    deliveries->give_back(receipt);
  }
  wake(state.tail.changes, state.tail.sleepers);
}

bool QueueCore::wait_for_message(const Deadline& deadline, const std::source_location& where) {
  QueueState& state = state_at(block_->offset());
  const auto ready = [&state] { return size_of(state) > 0 || is_over(state); };
  if (!announce(shm::OpKind::get, block_->offset(), ready, deadline, where)) return false;
  if (!wait_until(ready, state.tail.changes, state.tail.sleepers, "poll()", deadline, where)) return false;
  note_acquired(block_->offset(), of_puts);
  return true;
}

void close_queue(shm::Offset queue) noexcept {
  QueueState& state = state_at(queue);
  note_released(queue, of_puts);
  state.closed.store(1, std::memory_order_release);
  wake(state.tail.changes, state.tail.sleepers);
  wake(state.head.changes, state.head.sleepers);
}

void QueueCore::close(const std::source_location& where) {
  shm::point(shm::OpKind::set, block_->offset(), where);
  close_queue(block_->offset());
}
bool QueueCore::closed(const std::source_location& where) const {
  shm::point(shm::OpKind::load, block_->offset(), where);
  const bool closed = is_closed(state_at(block_->offset()));
  if (closed) note_acquired(block_->offset(), of_puts);
  return closed;
}
std::size_t QueueCore::size(const std::source_location& where) const {
  shm::point(shm::OpKind::load, block_->offset(), where);
  const std::size_t size = size_of(state_at(block_->offset()));
  note_acquired(block_->offset(), of_puts);
  note_acquired(block_->offset(), of_gets);
  return size;
}
std::size_t QueueCore::capacity() const noexcept { return state_at(block_->offset()).capacity; }

void QueueCore::task_done(const std::source_location& where) {
  QueueState& state = state_at(block_->offset());
  shm::point(shm::OpKind::set, block_->offset(), where);
  note_released(block_->offset(), of_gets);
  std::uint64_t done = state.done.load(std::memory_order_relaxed);
  do {
    if (done + (done_of(state) - state.done.load()) >= state.tail.position.load(std::memory_order_acquire))
      throw Error(fmt::format("task_done() on {} more often than values were put in", describe()));
  } while (!state.done.compare_exchange_weak(done, done + 1, std::memory_order_release));
  if (done_of(state) >= state.tail.position.load(std::memory_order_acquire))
    wake(state.joins, state.join_sleepers);
}

bool QueueCore::join(const Deadline& deadline, const std::source_location& where) {
  QueueState& state = state_at(block_->offset());
  const auto ready = [&state] {
    const auto done = done_of(state);
    return done >= state.tail.position.load(std::memory_order_acquire);
  };
  if (!announce(shm::OpKind::wait, block_->offset(), ready, deadline, where)) return false;
  if (!wait_until(ready, state.joins, state.join_sleepers, "join()", deadline, where)) return false;
  note_acquired(block_->offset(), of_gets);
  return true;
}

void throw_timeout(const QueueCore& queue, bool full) {
  if (full) {
    throw Timeout(fmt::format(
        "{} was full, with {} values, or held by a stopped process, for the whole time given to put()",
        queue.describe(), queue.capacity()));
  }
  throw Timeout(fmt::format("{} was empty, or held by a stopped process, for the whole time given to get()",
                            queue.describe()));
}

void throw_closed(const QueueCore& queue, bool put) {
  throw QueueClosed(
      fmt::format("{} is closed{}", queue.describe(), put ? "; nothing can be put into it" : " and empty"));
}

}  // namespace manyhands::process
