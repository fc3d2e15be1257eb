#pragma once
// TwoCopies: bytes in shared memory that are replaced as a whole, although one store cannot do it. For Value.
//
// One copy is the content, the other one is written by whoever replaces it; the store of `version_` makes the
// other one the content. So a writer that is killed has replaced all or nothing, and readers, which take no
// lock, never see a part of one and a part of another.
//
// Layout: [ ShortLock : 4 ][ 0 : 4 ][ version : 8 ][ copy 0 ][ copy 1 ], each copy padded to whole words.
// Copy version % 2 is the content. All zeros is a good state. Any process, any thread. Source: the two copies
// of L. Lamport, "Concurrent Reading and Writing" (1977), with a count for readers.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "manyhands/shm/short_lock.hpp"

namespace manyhands::shm {

class TwoCopies {
 public:
  TwoCopies() = default;  // by placement in zeroed memory of size_for(size) bytes
  TwoCopies(const TwoCopies&) = delete;
  TwoCopies& operator=(const TwoCopies&) = delete;

  static constexpr std::size_t size_for(std::size_t size) noexcept {
    return sizeof(std::uint64_t) * (2 + 2 * words_of(size));
  }

  // Copies the content, of `size` bytes, to `to`; returns which version it is. Blocks only while others
  // replace it again and again, for as long as one of them takes.
  std::uint64_t load(void* to, std::size_t size) noexcept;
  // Replaces the content. Blocks while others do.
  void store(const void* from, std::size_t size) noexcept;
  // The same if the content is of `version` still; returns whether it was.
  [[nodiscard]] bool store_if(std::uint64_t version, const void* from, std::size_t size) noexcept;

 private:
  static constexpr std::size_t words_of(std::size_t size) noexcept { return (size + 7) / 8; }
  std::atomic<std::uint64_t>* copy(std::uint64_t version, std::size_t size) noexcept {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(this + 1) + version % 2 * words_of(size);
  }
  void replace(std::uint64_t version, const void* from, std::size_t size) noexcept;

  ShortLock writer_;                       // who writes the copy that is not the content
  std::atomic<std::uint64_t> version_{0};  // replacements so far; by who has writer_
};
static_assert(sizeof(TwoCopies) == 16);

}  // namespace manyhands::shm
