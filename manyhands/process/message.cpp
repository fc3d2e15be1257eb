#include "manyhands/process/message.hpp"

#include "manyhands/base/bytes.hpp"
#include "manyhands/process/inherited.hpp"
#include "manyhands/wire/callable.hpp"
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

// A closure may capture pointers into an Array.
constexpr wire::SharedMemory memory{
    .offset_of = [](const void* address) { return shm::offset_of(address); },
    .address_of = [](std::uint64_t offset) -> void* { return shm::address_of_block(offset); },
    .is_inherited = is_inherited};
[[maybe_unused]] const bool registered = wire::register_shared_memory(memory);

}  // namespace

shm::BlockPtr make_message(ByteView message, std::span<const ByteView> buffers,
                           std::span<const shm::BlockPtr> named) {
  static_cast<void>(tidies);
  const std::uint64_t packet = round_up(sizeof(MessageHeader) + named.size() * sizeof(shm::Offset), 64);
  const std::uint64_t size = wire::packet_size(message, buffers);
  const shm::Offset offset = shm::allocate(packet + size, shm::BlockKind::message, shm::Zero::no);
  auto& header = shm::at<MessageHeader>(offset);
  header = {.named = 0, .packet = packet, .packet_size = size};  // whole at any moment: a sweeper may read it
  shm::BlockPtr made = shm::Block::adopt(offset);
  wire::write_packet(made->data() + packet, message, buffers);
  for (const auto& block : named) {
    shm::add_ref(block->offset());
    reinterpret_cast<shm::Offset*>(&header + 1)[header.named] = block->offset();
    ++header.named;
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
