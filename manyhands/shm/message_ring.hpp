#pragma once
// MessageRing: a bounded queue of messages of varying size in one block of shared memory; one producer, one
// consumer.
//
// A worker process pushes what it has to report, the parent pops. Neither takes a lock, so the death of one
// side leaves the other no mutex to wait for: what was published before the death can still be read, a
// message that was being written when the producer died was never visible. Waking the other side is the
// caller's matter.
//
// Layout:  [ head : 64 ][ tail : 64 ][ bytes : capacity ]; a message is {size : u32, pad : u32}, payload,
// padding to 8. A message never wraps: if it does not fit before the end, a header with size `skip` sends the
// reader to the start. Invariants: head - tail in [0, capacity]; both are multiples of 8; bytes [tail, head)
// belong to the consumer. Source: L. Lamport, "Proving the Correctness of Multiprocess Programs" (1977), the
// two-counter ring.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "manyhands/base/bytes.hpp"

namespace manyhands::shm {

class MessageRing {
 public:
  // Bytes that a ring with `capacity` bytes of messages takes. Capacity: a power of two, >= 64.
  static constexpr std::size_t footprint(std::size_t capacity) noexcept { return sizeof(Header) + capacity; }

  // A handle on the ring that lies in `memory` (64-byte aligned, footprint(capacity) bytes); zero bytes are
  // an empty ring. Each side makes its own handle.
  MessageRing(std::byte* memory, std::size_t capacity) noexcept
      : header_(reinterpret_cast<Header*>(memory)),
        bytes_(memory + sizeof(Header)),
        capacity_(capacity),
        seen_tail_(header_->tail.load(std::memory_order_acquire)) {}

  // The largest payload that is sure to fit into an empty ring.
  std::size_t max_message() const noexcept { return capacity_ / 2 - sizeof(Frame); }

  // Producer only. Space for a message of `size` <= max_message() bytes to be written in place, or nullptr if
  // the ring is too full now. Nothing is visible before publish().
  [[nodiscard]] std::byte* try_reserve(std::size_t size) noexcept {
    const auto head = header_->head.load(std::memory_order_relaxed);  // only we write head
    const std::size_t need = sizeof(Frame) + round_up(size, 8);
    const std::size_t at = head & (capacity_ - 1);
    const std::size_t skipped = at + need > capacity_ ? capacity_ - at : 0;
    if (capacity_ - (head - seen_tail_) < skipped + need) {
      // acquire pairs with pop(): the consumer is done with the bytes that we are about to overwrite
      seen_tail_ = header_->tail.load(std::memory_order_acquire);
      if (capacity_ - (head - seen_tail_) < skipped + need) return nullptr;
    }
    if (skipped != 0) write_frame(at, skip);
    reserved_ = skipped + need;
    const std::size_t start = (at + skipped) & (capacity_ - 1);
    write_frame(start, static_cast<std::uint32_t>(size));
    return bytes_ + start + sizeof(Frame);
  }

  // Producer only, after try_reserve(): makes the message visible; all written before is visible to who reads
  // it.
  void publish() noexcept {
    header_->head.store(header_->head.load(std::memory_order_relaxed) + reserved_, std::memory_order_release);
  }

  // Consumer only. The oldest message, in place and valid until pop(); nullopt if none waits.
  [[nodiscard]] std::optional<ByteView> front() noexcept {
    auto tail = header_->tail.load(std::memory_order_relaxed);  // only we write tail
    // acquire pairs with publish(): the message's bytes are visible
    if (header_->head.load(std::memory_order_acquire) == tail) return std::nullopt;
    Frame frame = read_frame(tail & (capacity_ - 1));
    if (frame.size == skip) {
      tail += capacity_ - (tail & (capacity_ - 1));
      header_->tail.store(tail, std::memory_order_release);
      frame = read_frame(0);
    }
    return ByteView(bytes_ + (tail & (capacity_ - 1)) + sizeof(Frame), frame.size);
  }

  // Consumer only, after front() gave a message: gives its bytes back to the producer.
  void pop() noexcept {
    const auto tail = header_->tail.load(std::memory_order_relaxed);
    const Frame frame = read_frame(tail & (capacity_ - 1));
    header_->tail.store(tail + sizeof(Frame) + round_up(frame.size, 8), std::memory_order_release);
  }

  // Either side; a snapshot.
  bool empty() const noexcept { return used() == 0; }
  std::size_t used() const noexcept {
    const auto tail = header_->tail.load(std::memory_order_acquire);
    return header_->head.load(std::memory_order_acquire) - tail;
  }
  std::size_t capacity() const noexcept { return capacity_; }
  // Producer only: whether more than half may be in use. Looks at the consumer's side only if it may be so.
  bool half_full() noexcept {
    const auto head = header_->head.load(std::memory_order_relaxed);
    if (head - seen_tail_ < capacity_ / 2) return false;
    seen_tail_ = header_->tail.load(std::memory_order_acquire);
    return head - seen_tail_ >= capacity_ / 2;
  }

 private:
  struct Frame {
    std::uint32_t size;  // of the payload in bytes, or `skip`
    std::uint32_t pad;
  };
  struct Header {
    alignas(64) std::atomic<std::uint64_t> head;  // bytes ever published; written by the producer
    alignas(64) std::atomic<std::uint64_t> tail;  // bytes ever consumed; written by the consumer
  };
  static constexpr std::uint32_t skip = 0xffff'ffff;

  void write_frame(std::size_t at, std::uint32_t size) noexcept {
    const Frame frame{size, 0};
    std::memcpy(bytes_ + at, &frame, sizeof frame);
  }
  Frame read_frame(std::size_t at) const noexcept {
    Frame frame;
    std::memcpy(&frame, bytes_ + at, sizeof frame);
    return frame;
  }

  Header* header_;
  std::byte* bytes_;
  std::size_t capacity_;
  std::uint64_t seen_tail_;   // tail when the producer last looked: its cache line is the consumer's
  std::size_t reserved_ = 0;  // bytes that publish() adds to head; producer's handle only
};

}  // namespace manyhands::shm
