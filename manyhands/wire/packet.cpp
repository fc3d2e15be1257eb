#include "manyhands/wire/packet.hpp"

#include <cstring>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

constexpr std::size_t buffer_alignment = 64;

void store(std::byte*& to, std::uint64_t value) noexcept {
  std::memcpy(to, &value, sizeof value);
  to += sizeof value;
}

std::uint64_t load(ByteView block, std::size_t at) {
  if (at > block.size() || block.size() - at < sizeof(std::uint64_t))
    throw WireError("a packet ends within its header");
  std::uint64_t value;
  std::memcpy(&value, block.data() + at, sizeof value);
  return value;
}

ByteView slice(ByteView block, std::size_t at, std::uint64_t size) {
  if (at > block.size() || size > block.size() - at)
    throw WireError("a packet is shorter than its header says");
  return block.subspan(at, size);
}

}  // namespace

std::size_t packet_size(ByteView message, std::span<const ByteView> buffers) noexcept {
  std::size_t size = (2 + buffers.size()) * sizeof(std::uint64_t) + message.size();
  for (const ByteView buffer : buffers) size = round_up(size, buffer_alignment) + buffer.size();
  return size;
}

void write_packet(std::byte* to, ByteView message, std::span<const ByteView> buffers) noexcept {
  std::byte* const start = to;
  store(to, message.size());
  store(to, buffers.size());
  for (const ByteView buffer : buffers) store(to, buffer.size());
  if (!message.empty()) std::memcpy(to, message.data(), message.size());
  std::size_t at = static_cast<std::size_t>(to - start) + message.size();
  for (const ByteView buffer : buffers) {
    at = round_up(at, buffer_alignment);
    if (!buffer.empty()) std::memcpy(start + at, buffer.data(), buffer.size());
    at += buffer.size();
  }
}

PacketView::PacketView(ByteView block) {
  const std::uint64_t message_size = load(block, 0);
  const std::uint64_t count = load(block, 8);
  if (count > block.size() / sizeof(std::uint64_t))
    throw WireError("a packet announces more buffers than fit into it");
  std::size_t at = 16 + count * sizeof(std::uint64_t);
  message_ = slice(block, at, message_size);
  at += message_size;
  buffers_.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    at = round_up(at, buffer_alignment);
    buffers_.push_back(slice(block, at, load(block, 16 + i * 8)));
    at += buffers_.back().size();
  }
}

}  // namespace manyhands::wire
