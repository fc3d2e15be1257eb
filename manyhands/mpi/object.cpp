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
constexpr std::size_t packet_alignment = 64;
constexpr std::byte zeros[packet_alignment] = {};

// The marker and the packet's header, which is written by whoever knows its layout, with nothing behind it.
std::vector<std::byte> head_of(ByteView message, std::span<const ByteView> buffers) {
  const std::size_t header = (2 + buffers.size()) * sizeof(std::uint64_t);
  std::vector<std::byte> head(packet_at + header, std::byte{0});
  head[0] = packet_mark;
  const std::uint64_t sizes[] = {message.size(), buffers.size()};
  std::memcpy(head.data() + packet_at, sizes, sizeof sizes);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const std::uint64_t size = buffers[i].size();
    std::memcpy(head.data() + packet_at + sizeof sizes + i * sizeof size, &size, sizeof size);
  }
  return head;
}

// Bytes in several places as one datatype, to be used with MPI_BOTTOM.
class Layout {
 public:
  void add(const std::byte* data, std::size_t size) {
    if (size == 0) return;
    MPI_Aint address = 0;
    MPI_Get_address(data, &address);
    offsets_.push_back(address);
    if (size <= std::size_t{1} << 30) {
      lengths_.push_back(static_cast<int>(size));
      types_.push_back(MPI_BYTE);
    } else {
      large_.push_back(Datatype::contiguous_of(static_cast<MPI_Count>(size), MPI_BYTE));
      lengths_.push_back(1);
      types_.push_back(large_.back().native());
    }
  }
  Datatype commit() const { return Datatype::structure(lengths_, offsets_, types_); }

 private:
  std::vector<Datatype> large_;  // parts of more than 2^31 bytes
  std::vector<int> lengths_;
  std::vector<MPI_Aint> offsets_;
  std::vector<MPI_Datatype> types_;
};

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
  head_ = head_of(message, buffers);
  Layout layout;
  layout.add(head_.data(), head_.size());
  layout.add(message.data(), message.size());
  std::size_t at = head_.size() - packet_at + message.size();
  for (const ByteView buffer : buffers) {
    const std::size_t start = round_up(at, packet_alignment);
    layout.add(zeros, start - at);
    layout.add(buffer.data(), buffer.size());
    at = start + buffer.size();
  }
  layout_ = layout.commit();
}

// ---- The arrays of an object that is there.

std::size_t ObjectInPlace::head_size() const noexcept {
  return packet_at + (2 + writer_.buffers().size()) * sizeof(std::uint64_t);
}

bool ObjectInPlace::may_take(MPI_Count bytes) const noexcept {
  if (writer_.buffers().empty()) return false;
  std::size_t at = head_size() - packet_at + writer_.bytes().size();
  // The value itself may be a little shorter or longer than the object's: then the sizes do not match.
  for (const ByteView buffer : writer_.buffers()) at = round_up(at, packet_alignment) + buffer.size();
  return static_cast<MPI_Count>(packet_at + at) == bytes;
}

Buffer ObjectInPlace::lay_out() {
  const ByteView message = writer_.bytes();
  const auto buffers = writer_.buffers();
  head_ = head_of(message, buffers);
  std::size_t at = head_.size() - packet_at + message.size();
  around_.resize(packet_at + at + buffers.size() * packet_alignment);
  std::byte* next = around_.data();
  const auto add = [this](std::byte* data, std::size_t size) {
    if (size > 0) pieces_.push_back({data, size});
  };
  add(next, packet_at + at);
  next += packet_at + at;
  for (const ByteView buffer : buffers) {
    const std::size_t start = round_up(at, packet_alignment);
    add(next, start - at);
    next += start - at;
    // The object is the caller's to be changed; the Writer only read it.
    add(const_cast<std::byte*>(buffer.data()), buffer.size());
    at = start + buffer.size();
  }
  Layout layout;
  for (const Piece& piece : pieces_) layout.add(piece.data, piece.size);
  layout_ = layout.commit();
  return {MPI_BOTTOM, 1, layout_.native()};
}

bool ObjectInPlace::matches() const noexcept {
  return std::memcmp(around_.data(), head_.data(), head_.size()) == 0;
}

void ObjectInPlace::all(std::byte* to) const noexcept {
  for (const Piece& piece : pieces_) {
    std::memcpy(to, piece.data, piece.size);
    to += piece.size;
  }
}

wire::Reader ObjectInPlace::reader() const noexcept {
  wire::Reader reader(ByteView(around_).subspan(head_.size(), writer_.bytes().size()), writer_.buffers());
  reader.set_owners(writer_.owners());
  return reader;
}

ObjectView::ObjectView(ByteView message) : message_(message) {
  if (message.empty() || message[0] != packet_mark) return;
  const wire::PacketView packet(message.subspan(std::min(packet_at, message.size())));
  message_ = packet.message();
  buffers_.assign(packet.buffers().begin(), packet.buffers().end());
}

void fail_unpack(MPI_Count bytes, const std::type_info& type, const char* why, const About& about) {
  int status = 0;
  char* const plain = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  const std::string name = status == 0 ? plain : type.name();
  std::free(plain);
  fail(Errc::type, "receive", about, fmt::format("the {} bytes that came are no {}: {}", bytes, name, why));
}

}  // namespace manyhands::mpi::detail
