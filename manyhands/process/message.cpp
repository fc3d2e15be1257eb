#include "manyhands/process/message.hpp"

#include "manyhands/base/bytes.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::process {
namespace {

std::span<shm::Offset> named_in(shm::Offset message) noexcept {
  auto& header = shm::at<MessageHeader>(message);
  return {reinterpret_cast<shm::Offset*>(&header + 1), header.named};
}

// The blocks that a freed message named are no longer under way.
const bool tidies = [] {
  shm::on_last_release(shm::BlockKind::message, [](shm::Offset message) {
    for (const shm::Offset block : named_in(message)) shm::release(block);
  });
  return true;
}();

}  // namespace

shm::Offset make_message(ByteView message, std::span<const ByteView> buffers,
                         std::span<const shm::BlockPtr> named) {
  static_cast<void>(tidies);
  const std::uint64_t packet = round_up(sizeof(MessageHeader) + named.size() * sizeof(shm::Offset), 64);
  const std::uint64_t size = wire::packet_size(message, buffers);
  const shm::Offset made = shm::allocate(packet + size, shm::BlockKind::message, shm::Zero::no);
  shm::at<MessageHeader>(made) = {.named = named.size(), .packet = packet, .packet_size = size};
  wire::write_packet(shm::address_of_block(made) + packet, message, buffers);
  const auto offsets = named_in(made);
  for (std::size_t i = 0; i < named.size(); ++i) {
    shm::add_ref(named[i]->offset());
    offsets[i] = named[i]->offset();
  }
  return made;
}

wire::PacketView open_message(shm::Offset message) {
  const auto& header = shm::at<MessageHeader>(message);
  const std::uint64_t size = shm::header_of(message).size;
  if (header.packet > size || header.packet_size > size - header.packet)
    throw WireError("a message in shared memory is larger than its block");
  return wire::PacketView({shm::address_of_block(message) + header.packet, header.packet_size});
}

}  // namespace manyhands::process
