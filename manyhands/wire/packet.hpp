#pragma once
// Packet: a message and its out-of-band buffers in one block of memory, as they lie in shared memory.
//
// Layout: [ message_size : u64 ][ buffer_count : u64 ][ buffer sizes : u64 each ][ message ][ buffers, each
// aligned to 64 ] counted from the block's start, which is aligned to 64. The block is written once and read
// in place: large arrays cross with one copy in and one out. Both sides run on one machine; the reader checks
// all sizes against the block.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "manyhands/base/bytes.hpp"

namespace manyhands::wire {

// Bytes that the packet takes.
std::size_t packet_size(ByteView message, std::span<const ByteView> buffers) noexcept;

// Writes the packet to `to`, which has packet_size(...) bytes.
void write_packet(std::byte* to, ByteView message, std::span<const ByteView> buffers) noexcept;

// A packet taken apart; borrows the block. Throws WireError if its sizes do not fit into the block.
class PacketView {
 public:
  explicit PacketView(ByteView block);
  ByteView message() const noexcept { return message_; }
  std::span<const ByteView> buffers() const& noexcept { return buffers_; }
  std::span<const ByteView> buffers() const&& = delete;

 private:
  ByteView message_;
  std::vector<ByteView> buffers_;
};

}  // namespace manyhands::wire
