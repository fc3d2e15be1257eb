#include "manyhands/wire/writer.hpp"

#include <fmt/core.h>

#include <cstdlib>
#include <new>
#include <utility>

#include "manyhands/base/memory.hpp"
#include "manyhands/wire/error.hpp"
#include "manyhands/wire/reader.hpp"
#include "manyhands/wire/records.hpp"

namespace manyhands::wire {
namespace {

constexpr std::size_t max_length = UINT32_MAX;  // of a MessagePack string, binary, array, map or extension
constexpr std::size_t align_from = 64;          // data of fewer bytes is not worth padding
constexpr std::size_t max_pad = 15;
constexpr std::size_t check_memory_from = std::size_t{64} << 20;  // bytes

// Writes `size` bytes; scribbles over 8.
std::byte* put_be(std::byte* at, std::uint64_t value, std::size_t size) {
  const std::uint64_t swapped = __builtin_bswap64(value << (64 - 8 * size));
  std::memcpy(at, &swapped, 8);
  return at + size;
}

template <class U>
std::byte* put_le(std::byte* at, U value) {
  std::memcpy(at, &value, sizeof(U));
  return at + sizeof(U);
}

void check_length(const char* what, std::size_t size) {
  if (size <= max_length) return;
  throw WireError(
      fmt::format("wire: cannot pack {} of {} (the format ends at {}); send it out of band or in parts", what,
                  size, max_length));
}

// Bytes that bring `offset` to a multiple of the power of two in `size`, at most 16.
std::size_t padding(std::size_t offset, std::size_t size) {
  const std::size_t alignment = size % 16 == 0  ? 16
                                : size % 8 == 0 ? 8
                                : size % 4 == 0 ? 4
                                : size % 2 == 0 ? 2
                                                : 1;
  return round_up(offset, alignment) - offset;
}

}  // namespace

Writer::~Writer() { std::free(first_); }

Writer::Writer(Writer&& other) noexcept
    : first_(std::exchange(other.first_, nullptr)),
      next_(std::exchange(other.next_, nullptr)),
      limit_(std::exchange(other.limit_, nullptr)),
      out_of_band_from_(other.out_of_band_from_),
      buffers_(std::move(other.buffers_)),
      copies_(std::move(other.copies_)),
      owners_(std::move(other.owners_)),
      notes_owners_(other.notes_owners_) {
  other.buffers_.clear();
  other.copies_.clear();
  other.owners_.clear();
}

Writer& Writer::operator=(Writer&& other) noexcept {
  std::swap(first_, other.first_);
  std::swap(next_, other.next_);
  std::swap(limit_, other.limit_);
  std::swap(out_of_band_from_, other.out_of_band_from_);
  std::swap(buffers_, other.buffers_);
  std::swap(copies_, other.copies_);
  std::swap(owners_, other.owners_);
  std::swap(notes_owners_, other.notes_owners_);
  other.clear();
  return *this;
}

void Writer::grow(std::size_t size) {
  const std::size_t used = bytes().size();
  const std::size_t old_capacity = static_cast<std::size_t>(limit_ - first_);
  std::size_t capacity = old_capacity + old_capacity / 2;
  if (capacity < used + size) capacity = used + size;
  if (capacity < 256) capacity = 256;
  auto* const grown = static_cast<std::byte*>(std::realloc(first_, capacity));
  if (grown == nullptr) throw std::bad_alloc();
  first_ = grown;
  next_ = grown + used;
  limit_ = grown + capacity;
  detail::advise_huge_pages(next_, capacity - used);
}

void Writer::check_depth() const {
  if (depth_ >= default_max_depth())
    throw WireError("wire: cannot pack: " + detail::depth_text(default_max_depth()));
}

void Writer::check_room(StackRoom room) const {
  if (auto text = detail::room_text(room, depth_)) throw WireError("wire: cannot pack: " + *text);
}

void Writer::append(ByteView data) {
  if (data.empty()) return;
  std::memcpy(room(data.size()), data.data(), data.size());
  next_ += data.size();
}

void Writer::wide_unsigned(std::uint64_t value) {
  std::byte* at = room(9);
  const unsigned log = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
  *at++ = static_cast<std::byte>(mark::uint8 + log);
  next_ = put_be(at, value, std::size_t{1} << log);
}

void Writer::wide_integer(std::int64_t value) {
  if (value >= 0) return wide_unsigned(static_cast<std::uint64_t>(value));
  std::byte* at = room(9);
  const unsigned log = value >= INT8_MIN ? 0 : value >= INT16_MIN ? 1 : value >= INT32_MIN ? 2 : 3;
  *at++ = static_cast<std::byte>(mark::int8 + log);
  next_ = put_be(at, static_cast<std::uint64_t>(value), std::size_t{1} << log);
}

void Writer::long_header(std::uint8_t mark16, std::size_t size) {
  check_length(mark16 == mark::map16 ? "a map of pairs: a number" : "an array of elements: a number", size);
  std::byte* at = room(9);
  const bool is_short = size <= UINT16_MAX;
  *at++ = static_cast<std::byte>(is_short ? mark16 : mark16 + 1);
  next_ = put_be(at, size, is_short ? 2 : 4);
}

void Writer::string(std::string_view text) {
  const std::size_t size = text.size();
  if (size >= out_of_band_from_) return reference(ext::out_of_band_string, as_byte_view(text), {});
  check_length("a string of bytes: a number", size);
  std::byte* at = room(9 + size);
  if (size < 32) {
    *at++ = static_cast<std::byte>(mark::fixstr | size);
  } else {
    const unsigned log = size <= UINT8_MAX ? 0 : size <= UINT16_MAX ? 1 : 2;
    *at++ = static_cast<std::byte>(mark::str8 + log);
    at = put_be(at, size, std::size_t{1} << log);
  }
  next_ = at;
  append(as_byte_view(text));
}

void Writer::binary(ByteView data) {
  const std::size_t size = data.size();
  if (size >= out_of_band_from_) return reference(ext::out_of_band_binary, data, {});
  check_length("a binary of bytes: a number", size);
  std::byte* at = room(9 + size);
  const unsigned log = size <= UINT8_MAX ? 0 : size <= UINT16_MAX ? 1 : 2;
  *at++ = static_cast<std::byte>(mark::bin8 + log);
  next_ = put_be(at, size, std::size_t{1} << log);
  append(data);
}

void Writer::ext_header(std::int8_t type, std::size_t size) {
  check_length("an extension of bytes: a number", size);
  std::byte* at = room(10);
  if (size != 0 && size <= 16 && (size & (size - 1)) == 0) {
    *at++ = static_cast<std::byte>(mark::fixext1 + __builtin_ctzll(size));
  } else {
    const unsigned log = size <= UINT8_MAX ? 0 : size <= UINT16_MAX ? 1 : 2;
    *at++ = static_cast<std::byte>(mark::ext8 + log);
    at = put_be(at, size, std::size_t{1} << log);
  }
  *at++ = static_cast<std::byte>(type);
  next_ = at;
}

void Writer::ext(std::int8_t type, ByteView body) {
  ext_header(type, body.size());
  append(body);
}

void Writer::reference(std::int8_t type, ByteView data, ByteView meta) {
  check_length("a message with buffers: a number", buffers_.size());
  std::byte head[12];
  put_le(put_le(head, static_cast<std::uint32_t>(buffers_.size())), std::uint64_t{data.size()});
  ext_header(type, sizeof head + meta.size());
  append(head);
  append(meta);
  if (keep_ != Keep::borrows) {
    if (data.size() >= check_memory_from) require_memory(data.size(), "a copy of what a Codec packs");
    copies_.push_back(std::make_unique_for_overwrite<std::byte[]>(data.size()));
    if (!data.empty()) std::memcpy(copies_.back().get(), data.data(), data.size());
    data = {copies_.back().get(), data.size()};
  }
  buffers_.push_back(data);
}

// An extension of metadata, then zeros to align the data within the message, then the data. The number of
// zeros goes into meta[pad_at]. The header is ext8 or ext32, so that its size does not depend on the padding.
void Writer::padded(std::int8_t type, MutableByteView meta, std::size_t pad_at, std::size_t element_size,
                    ByteView data) {
  check_length("an array of bytes: a number", data.size());
  const std::size_t most = meta.size() + max_pad + data.size();
  const std::size_t header = most <= UINT8_MAX ? 3 : 6;
  const std::size_t pad =
      data.size() < align_from ? 0 : padding(bytes().size() + header + meta.size(), element_size);
  const std::size_t size = meta.size() + pad + data.size();
  check_length("an array of bytes: a number", size);
  std::byte* at = room(9 + size);
  *at++ = static_cast<std::byte>(header == 3 ? mark::ext8 : mark::ext32);
  at = put_be(at, size, header - 2);
  *at++ = static_cast<std::byte>(type);
  meta[pad_at] = static_cast<std::byte>(pad);
  std::memcpy(at, meta.data(), meta.size());
  std::memset(at + meta.size(), 0, pad);
  next_ = at + meta.size() + pad;
  append(data);
}

void Writer::typed_array(Dtype dtype, std::span<const std::size_t> shape, ByteView data) {
  if (shape.size() > max_rank) {
    throw WireError(
        fmt::format("wire: cannot pack an array of {} dimensions (at most {})", shape.size(), max_rank));
  }
  std::byte meta[4 + 8 * max_rank];
  std::byte* end = put_le(put_le(meta, dtype.kind), dtype.size);
  end = put_le(put_le(end, static_cast<std::uint8_t>(shape.size())), std::uint8_t{0});
  for (const std::size_t extent : shape) end = put_le(end, std::uint64_t{extent});
  const MutableByteView used{meta, static_cast<std::size_t>(end - meta)};
  if (data.size() >= out_of_band_from_) return reference(ext::out_of_band_typed_array, data, used);
  padded(ext::typed_array, used, 3, dtype.size, data);
}

void Writer::records(std::string_view description, std::size_t count, ByteView data) {
  if (description.size() > UINT16_MAX) {
    throw WireError(fmt::format("wire: cannot pack records whose description takes {} bytes (at most {})",
                                description.size(), UINT16_MAX));
  }
  std::vector<std::byte> meta(12 + description.size());
  put_le(&meta[2], static_cast<std::uint16_t>(description.size()));
  put_le(&meta[4], std::uint64_t{count});
  std::memcpy(meta.data() + 12, description.data(), description.size());
  if (data.size() >= out_of_band_from_) return reference(ext::out_of_band_records, data, meta);
  padded(ext::records, meta, 0, count == 0 ? 1 : data.size() / count, data);
}

// ---- The Writer of a thread.

namespace {

struct Kept {
  Writer writer;
  bool used = false;
};
Kept& kept() {
  thread_local Kept mine;
  return mine;
}

}  // namespace

ThreadWriter::ThreadWriter(std::size_t out_of_band_from) {
  Kept& mine = kept();
  if (mine.used) {
    writer_ = &own_.emplace(out_of_band_from);
    return;
  }
  mine.used = true;
  mine.writer.out_of_band_from_ = out_of_band_from;
  writer_ = &mine.writer;
}

ThreadWriter::~ThreadWriter() {
  if (own_) return;
  writer_->clear();
  kept().used = false;
}

}  // namespace manyhands::wire
