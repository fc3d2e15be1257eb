#include "manyhands/shm/two_copies.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace manyhands::shm {
namespace {

constexpr int tries = 8;  // of a reader, before it keeps writers out

void read_words(const std::atomic<std::uint64_t>* from, void* to, std::size_t size) noexcept {
  auto* bytes = static_cast<std::byte*>(to);
  for (std::size_t at = 0; at < size; at += 8) {
    // acquire: who sees a word of a later version sees below that the version went on
    const std::uint64_t word = from[at / 8].load(std::memory_order_acquire);
    std::memcpy(bytes + at, &word, std::min<std::size_t>(8, size - at));
  }
}

}  // namespace

std::uint64_t TwoCopies::load(void* to, std::size_t size) noexcept {
  for (int i = 0; i < tries; ++i) {
    // acquire: pairs with the release in replace()
    const std::uint64_t version = version_.load(std::memory_order_acquire);
    read_words(copy(version, size), to, size);
    // This copy is written again only by who replaces the next version.
    if (version_.load(std::memory_order_relaxed) == version) return version;
  }
  const std::lock_guard lock(writer_);
  const std::uint64_t version = version_.load(std::memory_order_relaxed);
  read_words(copy(version, size), to, size);
  return version;
}

void TwoCopies::store(const void* from, std::size_t size) noexcept {
  const std::lock_guard lock(writer_);
  replace(version_.load(std::memory_order_relaxed), from, size);
}

bool TwoCopies::store_if(std::uint64_t version, const void* from, std::size_t size) noexcept {
  const std::lock_guard lock(writer_);
  if (version_.load(std::memory_order_relaxed) != version) return false;
  replace(version, from, size);
  return true;
}

// Requires writer_.
void TwoCopies::replace(std::uint64_t version, const void* from, std::size_t size) noexcept {
  std::atomic<std::uint64_t>* const to = copy(version + 1, size);
  const auto* bytes = static_cast<const std::byte*>(from);
  for (std::size_t at = 0; at < size; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + at, std::min<std::size_t>(8, size - at));
    to[at / 8].store(word, std::memory_order_release);  // after the store of `version`; see read_words()
  }
  version_.store(version + 1, std::memory_order_release);  // from here on the new content holds
}

}  // namespace manyhands::shm
