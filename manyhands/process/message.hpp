#pragma once
// Messages in the program's shared memory: a packed value, its large buffers, and the blocks that it names.
//
// Layout of the block: [ MessageHeader ][ offsets of the named blocks : u64 each ][ Packet, aligned to 64 ].
// A message holds one reference to each block it names and drops them when it is freed itself, so that an
// Array under way is not lost when its sender lets go of it. Written once, read in place. Any process.

#include <cstdint>
#include <span>

#include "manyhands/shm/block.hpp"
#include "manyhands/wire/packet.hpp"
#include "manyhands/wire/writer.hpp"

namespace manyhands::process {

struct MessageHeader {
  std::uint64_t named;        // blocks
  std::uint64_t packet;       // where the Packet begins, in bytes from the payload's start
  std::uint64_t packet_size;  // bytes
};

// A message that this process holds from before it is filled, so that it goes with us if we are killed. Who
// puts its offset elsewhere adds a reference. Throws ResourceExhausted.
shm::BlockPtr make_message(ByteView message, std::span<const ByteView> buffers,
                           std::span<const shm::BlockPtr> named);

// The packet in a message; valid as long as the message is. Throws WireError if it is damaged.
wire::PacketView open_message(shm::Offset message);

}  // namespace manyhands::process
