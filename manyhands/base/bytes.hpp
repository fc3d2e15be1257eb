#pragma once
// Views of raw bytes: the vocabulary in which wire/, shm/ and net/ hand memory to each other. A view borrows.

#include <cstddef>
#include <span>
#include <string_view>

namespace manyhands {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;

inline ByteView as_byte_view(std::string_view text) noexcept {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string_view as_text(ByteView bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The smallest multiple of `alignment` (a power of two) that is >= size.
constexpr std::size_t round_up(std::size_t size, std::size_t alignment) noexcept {
  return (size + alignment - 1) & ~(alignment - 1);
}

}  // namespace manyhands
