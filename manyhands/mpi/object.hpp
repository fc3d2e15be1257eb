#pragma once
// Objects as messages: whatever is neither plain nor flat is packed by wire/, once, on the side that sends.
//
// A message is either one MessagePack value, or, when large arrays lie in the object, the byte 0xc1 (which
// begins no such value), 63 bytes of nothing, and a wire::Packet whose buffers follow the value. The buffers
// are sent from where they lie in the object, through a derived datatype: one message, no copy on this side.

#include <cstddef>
#include <cstdlib>
#include <typeinfo>
#include <utility>

#include "manyhands/mpi/datatype.hpp"
#include "manyhands/mpi/status.hpp"
#include "manyhands/wire/codec.hpp"

namespace manyhands::mpi::detail {

inline constexpr std::size_t out_of_band_from = 16384;  // bytes: from here on sending in place beats the copy

// Memory that messages are received into; grows, and is kept for the next up to max_kept bytes. Aligned
// to 64.
class Scratch {
 public:
  static constexpr std::size_t max_kept = std::size_t{64} << 20;
  Scratch() = default;
  Scratch(Scratch&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch() { std::free(data_); }
  // At least `size` bytes, whose content is lost.
  std::byte* room(std::size_t size) {
    if (size > capacity_) [[unlikely]]
      grow(size);
    return data_;
  }
  void trim() noexcept {
    if (capacity_ > max_kept) [[unlikely]]
      drop();
  }

 private:
  void grow(std::size_t size);
  void drop() noexcept;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
};
Scratch& thread_scratch();

// The message of an object; refers to the object if it has large arrays and `from` allows it.
class ObjectMessage {
 public:
  explicit ObjectMessage(std::size_t from) : writer_(from) {}
  template <class T>
  void pack(const T& value) {
    writer_.clear();
    wire::pack(writer_, value);
    if (!writer_.buffers().empty()) [[unlikely]]
      lay_out();
  }
  ConstBuffer buffer() const noexcept {
    if (layout_.native() != MPI_DATATYPE_NULL) [[unlikely]]
      return {MPI_BOTTOM, 1, layout_.native()};
    return {writer_.bytes().data(), static_cast<MPI_Count>(writer_.bytes().size()), MPI_BYTE};
  }
  MPI_Count bytes() const noexcept {
    return layout_.native() != MPI_DATATYPE_NULL ? layout_.size() : buffer().count;
  }
  // Forgets layout and message and keeps the memory.
  void reset() noexcept {
    layout_ = Datatype();
    writer_.clear();
  }

 private:
  void lay_out();
  wire::Writer writer_;
  std::vector<std::byte> head_;  // the marker, the packet's header
  Datatype layout_;
};

// A message of this thread, reused; for blocking sends. One of its own while that is in use (a Codec that
// sends something itself).
class ThreadMessage {
 public:
  template <class T>
  explicit ThreadMessage(const T& value) : kept_(mine()), own_(out_of_band_from), is_kept_(!kept_.used) {
    if (is_kept_) kept_.used = true;
    try {
      message().pack(value);
    } catch (...) {
      release();
      throw;
    }
  }
  ThreadMessage(const ThreadMessage&) = delete;
  ThreadMessage& operator=(const ThreadMessage&) = delete;
  ~ThreadMessage() { release(); }
  ConstBuffer buffer() const noexcept { return is_kept_ ? kept_.message.buffer() : own_.buffer(); }

 private:
  struct Kept {
    ObjectMessage message{out_of_band_from};
    bool used = false;
  };
  static Kept& mine();
  ObjectMessage& message() noexcept { return is_kept_ ? kept_.message : own_; }
  void release() noexcept {
    if (!is_kept_) return;
    kept_.message.reset();
    kept_.used = false;
  }
  Kept& kept_;
  ObjectMessage own_;
  bool is_kept_;
};

// The parts of a message that came.
class ObjectView {
 public:
  explicit ObjectView(ByteView message);
  wire::Reader reader() const noexcept { return wire::Reader(message_, buffers_); }

 private:
  ByteView message_;
  std::vector<ByteView> buffers_;
};

[[noreturn]] void fail_unpack(ByteView message, const std::type_info& type, const char* why,
                              const About& about);

// The object of a message. Throws Error (type) if it holds no T.
template <class T>
T unpack_object(ByteView message, const About& about) {
  try {
    const ObjectView view(message);
    wire::Reader reader = view.reader();
    T value = wire::unpack<T>(reader);
    wire::detail::expect_end(reader);
    return value;
  } catch (const manyhands::Error& error) {
    fail_unpack(message, typeid(T), error.what(), about);
  }
}

}  // namespace manyhands::mpi::detail
