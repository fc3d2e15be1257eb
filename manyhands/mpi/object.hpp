#pragma once
// Objects as messages: whatever is neither plain nor flat is packed by wire/, once, on the side that sends.
//
// A message is either one MessagePack value, or, when large arrays lie in the object, the byte 0xc1 (which
// begins no such value), 63 bytes of nothing, and a wire::Packet whose buffers follow the value. The buffers
// are sent from where they lie in the object, through a derived datatype: one message, no copy on this side.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <optional>
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

// An object that is there, as the place for a message of an object like it: the large arrays of the message
// are received into those of the object, if they have the same sizes in the same order. Refers to the object.
class ObjectInPlace {
 public:
  // Messages below are not worth the look.
  static constexpr MPI_Count from_bytes = MPI_Count{4} * out_of_band_from;

  template <class T>
  explicit ObjectInPlace(const T& value) : writer_(out_of_band_from) {
    writer_.note_owners();
    wire::pack(writer_, value);
  }
  // Whether a message of so many bytes may have the sizes of the object's.
  bool may_take(MPI_Count bytes) const noexcept;
  // Where such a message goes. The object's arrays are overwritten.
  Buffer lay_out();
  // Whether what came has its sizes. Otherwise it lies in pieces: all() puts them together.
  bool matches() const noexcept;
  void all(std::byte* to) const noexcept;
  // Of what came, which matches. Takes the object's own arrays out of it.
  wire::Reader reader() const noexcept;

 private:
  struct Piece {
    std::byte* data;
    std::size_t size;
  };
  std::size_t head_size() const noexcept;
  wire::Writer writer_;
  std::vector<std::byte> head_;    // the marker and the packet's header that match
  std::vector<std::byte> around_;  // what came but for the arrays: head, value, and zeros before each array
  std::vector<Piece> pieces_;      // of the whole message, in order
  Datatype layout_;
};

// Whether receives into objects of a type find places that match: after a miss the next ones do not look,
// twice as many each time.
class PlaceFinder {
 public:
  bool worth_trying() noexcept {
    if (skip_ == 0) return true;
    --skip_;
    return false;
  }
  void found(bool matched) noexcept {
    misses_ = matched ? 0 : std::min(misses_ + 1, 6U);
    skip_ = (1U << misses_) - 1;
  }

 private:
  unsigned misses_ = 0;  // running
  unsigned skip_ = 0;
};

[[noreturn]] void fail_unpack(MPI_Count bytes, const std::type_info& type, const char* why,
                              const About& about);

// The one value of a message of `bytes`. Throws Error (type) if it holds no T, or more.
template <class T>
T unpack_whole(wire::Reader reader, MPI_Count bytes, const About& about) {
  try {
    T value = wire::unpack<T>(reader);
    wire::detail::expect_end(reader);
    return value;
  } catch (const manyhands::Error& error) {
    fail_unpack(bytes, typeid(T), error.what(), about);
  }
}

// The object of a message. Throws Error (type) if it holds no T.
template <class T>
T unpack_object(ByteView message, const About& about) {
  const auto bytes = static_cast<MPI_Count>(message.size());
  std::optional<ObjectView> view;
  try {
    view.emplace(message);
  } catch (const manyhands::Error& error) {
    fail_unpack(bytes, typeid(T), error.what(), about);
  }
  return unpack_whole<T>(view->reader(), bytes, about);
}

}  // namespace manyhands::mpi::detail
