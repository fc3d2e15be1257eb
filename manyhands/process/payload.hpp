#pragma once
// Payload: a packed value as the parent keeps it until somebody asks: a few bytes in place, or a block of
// shared memory.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "manyhands/process/message.hpp"
#include "manyhands/shm/arena.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/wire/packet.hpp"
#include "manyhands/wire/reader.hpp"

namespace manyhands::process {

// A block of a pool's shared memory, given back when its owner goes. Keeps the memory mapped (hence
// shared_ptr: results outlive their pool).
class SharedBlock {
 public:
  SharedBlock() = default;
  SharedBlock(std::shared_ptr<shm::Segment> memory, std::uint64_t offset, std::uint64_t size) noexcept
      : memory_(std::move(memory)), offset_(offset), size_(size) {}
  SharedBlock(SharedBlock&& other) noexcept
      : memory_(std::move(other.memory_)),
        offset_(std::exchange(other.offset_, 0)),
        size_(std::exchange(other.size_, 0)) {}
  SharedBlock& operator=(SharedBlock&& other) noexcept {
    if (this != &other) {
      reset();
      memory_ = std::move(other.memory_);
      offset_ = std::exchange(other.offset_, 0);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~SharedBlock() { reset(); }

  void reset() noexcept {
    if (offset_ != 0) shm::Arena::release(memory_->data(), offset_);
    offset_ = 0;
    memory_.reset();
  }
  std::byte* data() const noexcept { return memory_->data() + offset_; }
  std::uint64_t offset() const noexcept { return offset_; }
  std::uint64_t size() const noexcept { return size_; }
  ByteView view() const noexcept { return {data(), size_}; }
  explicit operator bool() const noexcept { return offset_ != 0; }

 private:
  std::shared_ptr<shm::Segment> memory_;
  std::uint64_t offset_ = 0;  // 0: none
  std::uint64_t size_ = 0;
};

class Payload {
 public:
  Payload() = default;
  explicit Payload(ByteView message) : size_(message.size()) {
    std::byte* to = small_.data();
    if (size_ > small_.size()) {
      large_ = std::make_unique_for_overwrite<std::byte[]>(size_);
      to = large_.get();
    }
    if (size_ > 0) std::memcpy(to, message.data(), size_);
  }
  explicit Payload(SharedBlock packet) : block_(std::move(packet)) {}
  // A message that names shared memory (message.hpp), which it keeps alive.
  explicit Payload(shm::BlockPtr message) : message_(std::move(message)) {}

  // Calls use(reader) with a Reader of the message.
  template <class Use>
  decltype(auto) read(Use use) const {
    if (block_ || message_ != nullptr) {
      const wire::PacketView packet =
          block_ ? wire::PacketView(block_.view()) : open_message(message_->offset());
      wire::Reader reader(packet.message(), packet.buffers());
      return use(reader);
    }
    wire::Reader reader({large_ ? large_.get() : small_.data(), size_});
    return use(reader);
  }

 private:
  std::array<std::byte, 48> small_{};
  std::uint64_t size_ = 0;
  std::unique_ptr<std::byte[]> large_;
  SharedBlock block_;
  shm::BlockPtr message_;
};

}  // namespace manyhands::process
