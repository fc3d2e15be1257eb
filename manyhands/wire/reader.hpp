#pragma once
// Reader: takes MessagePack values from a message that may come from anywhere; the mirror of Writer.
//
// Every verb checks type, range and bounds and throws WireError with what was expected, what came, and the
// offset. Nothing is allocated here, and no count is returned that the bytes left could not hold (each value
// takes at least one), so that a caller may loop over it. Views are borrowed from the message or its buffers.
// However deep a message nests, the stack does not overflow: a value that does not fit on it is a WireError.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/stack_space.hpp"
#include "manyhands/wire/buffer_owner.hpp"
#include "manyhands/wire/format.hpp"

namespace manyhands::wire {

struct Limits {
  std::size_t max_depth = default_max_depth();  // containers within containers
  // Memory that the elements of containers, strings and pointees may take.
  std::uint64_t max_bytes = UINT64_MAX;
};

// What the next value is; an out-of-band string or binary counts as such.
enum class Type : std::uint8_t { end, nil, boolean, integer, real, string, binary, array, map, ext, invalid };

struct ExtView {
  std::int8_t type;
  ByteView body;
};

struct TypedArrayView {
  Dtype dtype;
  std::size_t rank = 0;
  std::size_t shape[max_rank] = {};
  std::size_t count = 0;  // elements: the product of the shape
  ByteView data;          // count * dtype.size bytes, of any alignment
};

struct RecordsView {
  std::size_t count = 0;
  ByteView data;
};

// One thread. After a WireError the position is unspecified.
class Reader {
 public:
  explicit Reader(ByteView message, std::span<const ByteView> buffers = {}, Limits limits = {}) noexcept
      : first_(message.data()),
        next_(message.data()),
        last_(message.data() + message.size()),
        buffers_(buffers),
        max_depth_(limits.max_depth),
        depth_left_(limits.max_depth),
        memory_left_(limits.max_bytes) {}

  void nil();
  bool boolean();
  // Any encoding of an integer that the type can hold.
  std::int64_t integer() { return integral<std::int64_t>(); }
  std::uint64_t unsigned_integer() { return integral<std::uint64_t>(); }
  template <class T>
  T integral() {
    static_assert(std::is_integral_v<T> && sizeof(T) <= 8);
    if (next_ != last_ && static_cast<std::uint8_t>(*next_) < 128) return static_cast<T>(*next_++);
    return wide_integral<T>();
  }
  // Any float or integer.
  double real() {
    if (left() >= 9 && static_cast<std::uint8_t>(*next_) == mark::float64) {
      std::uint64_t bits;
      std::memcpy(&bits, next_ + 1, 8);
      next_ += 9;
      return __builtin_bit_cast(double, __builtin_bswap64(bits));
    }
    return other_real();
  }
  // As real(), but a double that float cannot hold exactly is a WireError.
  float real32();
  std::string_view string();
  ByteView binary();
  // The number of elements that follow; never more than bytes are left.
  std::size_t array();
  // Takes the head of an array that must have exactly `size` elements.
  void array_of(std::size_t size) {
    if (size < 16 && next_ != last_ && *next_ == static_cast<std::byte>(mark::fixarray | size)) {
      ++next_;
    } else {
      other_array_of(size);
    }
  }
  // The number of pairs that follow.
  std::size_t map();
  // Our own extension types too, as they lie in the message.
  ExtView ext();
  TypedArrayView typed_array();
  // Throws WireError naming both if the message's description is not `description`.
  RecordsView records(std::string_view description, std::size_t record_size);

  // Containers that hold the buffers already, by index: who reads such a buffer as the same type takes the
  // container instead of copying. They are left empty then.
  void set_owners(std::span<const BufferOwner> owners) noexcept { owners_ = owners; }
  // The container of the newest buffer, if that is what lies at `data`, `count` elements in a C.
  template <class C>
  C* owner(const void* data, std::size_t count) const noexcept {
    if (next_buffer_ == 0 || next_buffer_ > owners_.size()) return nullptr;
    const BufferOwner& one = owners_[next_buffer_ - 1];
    if (one.type != &owner_type<C>) return nullptr;
    C* const container = static_cast<C*>(const_cast<void*>(one.container));
    return container->data() == data && container->size() == count ? container : nullptr;
  }

  Type peek() const noexcept;
  // Over one value with all that it contains.
  void skip();

  bool at_end() const noexcept { return next_ == last_; }
  std::size_t offset() const noexcept { return static_cast<std::size_t>(next_ - first_); }
  std::size_t left() const noexcept { return static_cast<std::size_t>(last_ - next_); }

  // Guards one nested value of `size_bytes`: throws WireError when max_depth is passed, or the stack is at
  // its end.
  class Level {
   public:
    explicit Level(Reader& reader, std::size_t size_bytes = 0) : reader_(reader) {
      if (reader.depth_left_ == 0) [[unlikely]]
        reader.reject_depth();
      if (const StackRoom room = stack_room(3 * size_bytes); room != StackRoom::enough) [[unlikely]]
        reader.check_room(room);
      --reader.depth_left_;
    }
    ~Level() { ++reader_.depth_left_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Reader& reader_;
  };

  // Counts memory about to be taken for decoded values; throws WireError when max_bytes is passed.
  void charge(std::uint64_t bytes) {
    if (bytes > memory_left_) [[unlikely]]
      reject_memory(bytes);
    memory_left_ -= bytes;
  }
  // WireError "expected EXPECTED at byte N of M, found ...", for the value at offset().
  [[noreturn]] void expected(std::string_view what) const;
  // WireError "WHAT (at byte N of M)".
  [[noreturn]] void reject(std::string_view what) const;

 private:
  struct Wide {
    std::uint64_t bits;
    bool negative;
  };
  template <class T>
  T wide_integral() {
    const std::byte* const at = next_;
    const Wide wide = wide_integer();
    const T value = static_cast<T>(wide.bits);
    bool fits = static_cast<std::uint64_t>(value) == wide.bits;  // sign-extends
    if constexpr (std::is_signed_v<T>) {
      fits = fits && (value < 0) == wide.negative;
    } else {
      fits = fits && !wide.negative;
    }
    if (!fits) [[unlikely]]
      reject_range(at, wide, std::is_signed_v<T>, sizeof(T));
    return value;
  }
  Wide wide_integer();
  double other_real();
  void other_array_of(std::size_t size);
  const std::byte* take(std::size_t size);
  std::uint64_t big_endian(std::size_t size);
  std::size_t length(std::size_t size);
  ExtView ext_value();
  ByteView buffer(ByteView& body);
  [[noreturn]] void reject_range(const std::byte* at, Wide wide, bool is_signed, std::size_t size);
  [[noreturn]] void reject_memory(std::uint64_t bytes) const;
  [[noreturn]] void reject_depth() const;
  void check_room(StackRoom room) const;

  const std::byte* first_;
  const std::byte* next_;
  const std::byte* last_;
  std::span<const ByteView> buffers_;
  std::span<const BufferOwner> owners_;
  std::size_t next_buffer_ = 0;  // buffers are referred to in order, each at most once
  std::size_t max_depth_;
  std::size_t depth_left_;
  std::uint64_t memory_left_;
};

namespace detail {
// What is wrong with a value that nests so deep, and what to do; nothing if there is room.
std::string depth_text(std::size_t max_depth);
std::optional<std::string> room_text(StackRoom room, std::size_t depth);
}  // namespace detail

}  // namespace manyhands::wire
