#include "manyhands/shm/array.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

namespace manyhands {

Shape::Shape(std::initializer_list<std::size_t> extents)
    : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::size_t> extents) : rank_(extents.size()) {
  if (extents.empty() || extents.size() > max_rank)
    throw Error(fmt::format("a shape of {} extents: it has 1 to {}", extents.size(), max_rank));
  std::ranges::copy(extents, extents_.begin());
}

std::size_t Shape::count() const {
  std::size_t product = 1;
  for (const std::size_t extent : extents()) {
    if (__builtin_mul_overflow(product, extent, &product))
      throw Error(fmt::format("an array of shape ({}) has more elements than can be counted",
                              fmt::join(extents(), ", ")));
  }
  return product;
}

bool operator==(const Shape& a, const Shape& b) noexcept {
  return std::ranges::equal(a.extents(), b.extents());
}

namespace shm {

void reject_index(const char* what, std::size_t index, std::size_t size) {
  throw Error(fmt::format("mh::Array: {} is {}, the limit is {}", what, index, size));
}
void reject_slice(std::size_t begin, std::size_t end, std::size_t size) {
  throw Error(
      fmt::format("mh::Array: slice({}, {}) of {} elements along the first dimension", begin, end, size));
}
void reject_shape(const Shape& shape, std::size_t count) {
  throw Error(fmt::format("mh::Array: {} elements cannot have the shape ({})", count,
                          fmt::join(shape.extents(), ", ")));
}
void reject_negative(std::intmax_t size) {
  throw Error(fmt::format("mh::Array: a size of {} makes no sense", size));
}
void reject_lockless() {
  throw Error("this mh::Array has no lock; make it with mh::Array<T> a(size, {.with_lock = true})");
}

std::uint64_t element_type(std::size_t size, std::size_t alignment, const char* name) noexcept {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325 + size * 64 + alignment;  // FNV-1a
  for (const char c : std::string_view(name)) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  return hash;
}

BlockPtr create_array(const Shape& shape, std::size_t element_size, std::uint64_t type, bool zero) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(shape.count(), element_size, &bytes))
    throw ResourceExhausted(fmt::format("an array of {} elements of {} bytes is larger than any memory",
                                        shape.count(), element_size));
  BlockPtr block = Block::create(bytes, BlockKind::array, zero ? Zero::yes : Zero::no);
  header_of(block->offset()).type = type;
  return block;
}

BlockPtr attach_array(Offset payload, std::uint64_t type, const Shape& shape, std::size_t first,
                      std::size_t element_size) {
  BlockPtr block = Block::attach(payload, BlockKind::array);
  if (header_of(payload).type != type)
    throw Error("a message names an mh::Array of another element type than is expected");
  const std::size_t elements = block->size() / element_size;
  if (first > elements || shape.count() > elements - first)
    throw Error("a message names more elements of an mh::Array than it has");
  return block;
}

}  // namespace shm
}  // namespace manyhands
