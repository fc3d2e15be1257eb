#pragma once
// Writer: appends MessagePack values to one growing message; large buffers may stay outside of it.
//
// Used through wire::pack() (codec.hpp); directly by a Codec<T> of the user's. The verbs write one
// MessagePack value each; after array(n) the caller writes n values, after map(n) n keys and values in turn.
//
// Out of band: contiguous arrays, strings and binaries of at least `out_of_band_from` bytes do not lie in the
// message. buffers() lists them, and the message holds {index, size} in their place. wire::pack() of an
// lvalue borrows those that lie in the value itself, which must stay as it is until the buffers have been
// sent. All others are copied, and the Writer keeps the copies: what a Codec writes or packs, what is packed
// as a temporary, and what is given to a verb directly. So a Codec may pack whatever it makes.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/stack_space.hpp"
#include "manyhands/wire/buffer_owner.hpp"
#include "manyhands/wire/format.hpp"

namespace manyhands::wire {

// One thread. Reusable: clear() keeps the memory. After an exception the message is incomplete: clear() it.
class Writer {
 public:
  explicit Writer(std::size_t out_of_band_from = never_out_of_band) noexcept
      : out_of_band_from_(out_of_band_from) {}
  ~Writer();
  Writer(Writer&& other) noexcept;
  Writer& operator=(Writer&& other) noexcept;
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void nil() { put(mark::nil); }
  void boolean(bool value) { put(value ? mark::boolean_true : mark::boolean_false); }
  // Written in the shortest form, as MessagePack asks for.
  void integer(std::int64_t value) {
    if (value >= -32 && value < 128) {
      put(static_cast<std::uint8_t>(value));
    } else {
      wide_integer(value);
    }
  }
  void unsigned_integer(std::uint64_t value) {
    if (value < 128) {
      put(static_cast<std::uint8_t>(value));
    } else {
      wide_unsigned(value);
    }
  }
  void real(float value) {
    put_big_endian(mark::float32, __builtin_bswap32(__builtin_bit_cast(std::uint32_t, value)));
  }
  void real(double value) {
    put_big_endian(mark::float64, __builtin_bswap64(__builtin_bit_cast(std::uint64_t, value)));
  }
  // Strings, binaries and extensions of 4 GiB and more do not fit into MessagePack: WireError, unless out of
  // band.
  void string(std::string_view text);
  void binary(ByteView data);
  void array(std::size_t size) {
    if (size < 16) {
      put(static_cast<std::uint8_t>(mark::fixarray | size));
    } else {
      long_header(mark::array16, size);
    }
  }
  void map(std::size_t size) {
    if (size < 16) {
      put(static_cast<std::uint8_t>(mark::fixmap | size));
    } else {
      long_header(mark::map16, size);
    }
  }
  void ext(std::int8_t type, ByteView body);

  // An array of numbers, row-major. Requires: data.size() = the product of `shape` times dtype.size; rank <=
  // max_rank.
  void typed_array(Dtype dtype, std::span<const std::size_t> shape, ByteView data);
  // The bytes of `count` plain structs of the layout that `description` names (records.hpp).
  void records(std::string_view description, std::size_t count, ByteView data);

  // The message so far; valid until the next verb.
  ByteView bytes() const&& = delete;
  ByteView bytes() const& noexcept { return {first_, static_cast<std::size_t>(next_ - first_)}; }
  // The out-of-band buffers in order of their index; borrowed from the packed values, or copies that are kept
  // here until clear().
  std::span<const ByteView> buffers() const&& = delete;
  std::span<const ByteView> buffers() const& noexcept { return buffers_; }
  // From now on the containers that hold the buffers are noted, by index; there may be fewer than buffers.
  void note_owners() noexcept { notes_owners_ = true; }
  std::span<const BufferOwner> owners() const& noexcept { return owners_; }
  // The newest buffer, if `container` gave one, is its elements.
  template <class C>
  void owned_by(const C& container) {
    if (notes_owners_) [[unlikely]]
      note_owner({&container, &owner_type<C>}, container.data());
  }
  // Hands over the copies among the buffers, for who needs them longer.
  using Copy = std::unique_ptr<std::byte[]>;
  std::vector<Copy> take_copies() noexcept { return std::exchange(copies_, {}); }
  // Forgets message and buffers, keeps the capacity.
  void clear() noexcept {
    next_ = first_;
    buffers_.clear();
    copies_.clear();
    owners_.clear();
  }

 private:
  enum class Keep : std::uint8_t { copies, borrows, only_copies };

 public:
  // Guards one nested value, as the Reader's does: what can be written can be read. Throws WireError when
  // default_max_depth() is passed, or the stack is at its end.
  class Level {
   public:
    explicit Level(Writer& writer) : writer_(writer) {
      if (writer.depth_ >= max_depth_at_hand) [[unlikely]]
        writer.check_depth();
      if (const StackRoom room = stack_room(0); room != StackRoom::enough) [[unlikely]]
        writer.check_room(room);
      ++writer.depth_;
    }
    ~Level() { --writer_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Writer& writer_;
  };

  // What happens to out-of-band buffers while it stands: borrowed, unless a scope around it says `copied`.
  enum class Buffers : std::uint8_t { borrowed, copied };
  class Scope {
   public:
    Scope(Writer& writer, Buffers buffers) noexcept : writer_(writer), before_(writer.keep_) {
      if (buffers == Buffers::copied) {
        writer.keep_ = Keep::only_copies;
      } else if (before_ == Keep::copies) {
        writer.keep_ = Keep::borrows;
      }
    }
    ~Scope() { writer_.keep_ = before_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Writer& writer_;
    Keep before_;
  };

 private:
  // A place for `size` bytes at next_; the caller moves next_.
  std::byte* room(std::size_t size) {
    if (static_cast<std::size_t>(limit_ - next_) < size) [[unlikely]]
      grow(size);
    return next_;
  }
  void put(std::uint8_t byte) {
    *room(1) = std::byte{byte};
    ++next_;
  }
  template <class U>
  void put_big_endian(std::uint8_t first, U swapped) {
    std::byte* at = room(1 + sizeof(U));
    at[0] = std::byte{first};
    std::memcpy(at + 1, &swapped, sizeof(U));
    next_ = at + 1 + sizeof(U);
  }
  static constexpr std::size_t max_depth_at_hand = 64;  // from here on the limit is asked for
  void check_depth() const;
  void check_room(StackRoom room) const;
  void grow(std::size_t size);
  void wide_integer(std::int64_t value);
  void wide_unsigned(std::uint64_t value);
  void long_header(std::uint8_t mark16, std::size_t size);
  void ext_header(std::int8_t type, std::size_t size);
  void append(ByteView data);
  // Of the newest buffer, if that lies at `data`.
  void note_owner(BufferOwner owner, const void* data) {
    if (buffers_.empty() || buffers_.back().data() != data) return;
    owners_.resize(buffers_.size());
    owners_.back() = owner;
  }
  void reference(std::int8_t type, ByteView data, ByteView meta);
  void padded(std::int8_t type, MutableByteView meta, std::size_t pad_at, std::size_t element_size,
              ByteView data);

  friend class ThreadWriter;

  std::byte* first_ = nullptr;  // malloc'ed [first_, limit_), written up to next_
  std::byte* next_ = nullptr;
  std::byte* limit_ = nullptr;
  std::size_t out_of_band_from_;
  std::vector<ByteView> buffers_;
  std::vector<Copy> copies_;         // of those of buffers_ that are not borrowed
  std::vector<BufferOwner> owners_;  // by buffer, if they are noted; at most as many
  bool notes_owners_ = false;
  Keep keep_ = Keep::copies;
  std::size_t depth_ = 0;
};

// The Writer of this thread, whose memory is reused; one of its own while that is in use (a Codec that sends
// something itself). Empty at first.
class ThreadWriter {
 public:
  explicit ThreadWriter(std::size_t out_of_band_from);
  ~ThreadWriter();
  ThreadWriter(const ThreadWriter&) = delete;
  ThreadWriter& operator=(const ThreadWriter&) = delete;
  Writer& operator*() noexcept { return *writer_; }
  Writer* operator->() noexcept { return writer_; }

 private:
  std::optional<Writer> own_;
  Writer* writer_;
};

}  // namespace manyhands::wire
