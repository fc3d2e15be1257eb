#include "manyhands/mpi/object.hpp"

#include <cxxabi.h>
#include <fmt/format.h>

#include <cstring>
#include <new>

#include "manyhands/wire/packet.hpp"

namespace manyhands::mpi::detail {
namespace {

constexpr std::byte packet_mark{0xc1};
constexpr std::size_t packet_at = 64;
constexpr std::byte zeros[64] = {};

}  // namespace

void Scratch::grow(std::size_t size) {
  const std::size_t wanted = round_up(std::max(size, capacity_ + capacity_ / 2), 64);
  std::free(std::exchange(data_, nullptr));
  capacity_ = 0;
  data_ = static_cast<std::byte*>(std::aligned_alloc(64, wanted));
  if (data_ == nullptr) throw std::bad_alloc();
  capacity_ = wanted;
}

void Scratch::drop() noexcept {
  std::free(std::exchange(data_, nullptr));
  capacity_ = 0;
}

Scratch& thread_scratch() {
  thread_local Scratch mine;
  return mine;
}

ThreadMessage::Kept& ThreadMessage::mine() {
  thread_local Kept kept;
  return kept;
}

void ObjectMessage::lay_out() {
  const ByteView message = writer_.bytes();
  const auto buffers = writer_.buffers();
  // The header is written by whoever knows its layout, with nothing behind it.
  const std::size_t header = (2 + buffers.size()) * sizeof(std::uint64_t);
  head_.assign(packet_at + header, std::byte{0});
  head_[0] = packet_mark;
  const std::uint64_t sizes[] = {message.size(), buffers.size()};
  std::memcpy(head_.data() + packet_at, sizes, sizeof sizes);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const std::uint64_t size = buffers[i].size();
    std::memcpy(head_.data() + packet_at + sizeof sizes + i * sizeof size, &size, sizeof size);
  }

  std::vector<Datatype> large;  // parts of more than 2^31 bytes
  std::vector<int> lengths;
  std::vector<MPI_Aint> offsets;
  std::vector<MPI_Datatype> types;
  const auto add = [&](const std::byte* data, std::size_t size) {
    if (size == 0) return;
    MPI_Aint address = 0;
    MPI_Get_address(data, &address);
    offsets.push_back(address);
    if (size <= std::size_t{1} << 30) {
      lengths.push_back(static_cast<int>(size));
      types.push_back(MPI_BYTE);
    } else {
      large.push_back(Datatype::contiguous_of(static_cast<MPI_Count>(size), MPI_BYTE));
      lengths.push_back(1);
      types.push_back(large.back().native());
    }
  };
  add(head_.data(), head_.size());
  add(message.data(), message.size());
  std::size_t at = header + message.size();
  for (const ByteView buffer : buffers) {
    const std::size_t start = round_up(at, 64);
    add(zeros, start - at);
    add(buffer.data(), buffer.size());
    at = start + buffer.size();
  }
  layout_ = Datatype::structure(lengths, offsets, types);
}

ObjectView::ObjectView(ByteView message) : message_(message) {
  if (message.empty() || message[0] != packet_mark) return;
  const wire::PacketView packet(message.subspan(std::min(packet_at, message.size())));
  message_ = packet.message();
  buffers_.assign(packet.buffers().begin(), packet.buffers().end());
}

void fail_unpack(ByteView message, const std::type_info& type, const char* why, const About& about) {
  int status = 0;
  char* const plain = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  const std::string name = status == 0 ? plain : type.name();
  std::free(plain);
  fail(Errc::type, "receive", about,
       fmt::format("the {} bytes that came are no {}: {}", message.size(), name, why));
}

}  // namespace manyhands::mpi::detail
