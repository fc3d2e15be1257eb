#pragma once
// KeptValues: copies of small values that one-sided operations under way read, by the rank they go to.
//
// A value's copy stays where it is until drop() of its rank. Memory is taken in chunks, and the largest one
// is kept for the next epoch, so that an operation costs no allocation; the same value again, as in counting,
// costs no memory either. One thread.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace manyhands::mpi::detail {

class KeptValues {
 public:
  // Of a window of so many ranks; the first value makes room for them.
  explicit KeptValues(std::size_t ranks) : ranks_(ranks) {}

  // A copy of the `bytes` at `data`, aligned as by new. Requires: rank < ranks, bytes > 0.
  const std::byte* keep(std::size_t rank, const void* data, std::size_t bytes) {
    if (of_.empty()) [[unlikely]]
      of_.resize(ranks_);
    Chunks& here = of_[rank];
    if (here.last_bytes == bytes && same(here.last, data, bytes)) return here.last;
    const std::size_t wanted = (bytes + alignment - 1) / alignment * alignment;
    if (static_cast<std::size_t>(here.end - here.next) < wanted) [[unlikely]]
      add_chunk(here, wanted);
    here.last = std::exchange(here.next, here.next + wanted);
    here.last_bytes = bytes;
    bytes == 8 ? std::memcpy(here.last, data, 8) : std::memcpy(here.last, data, bytes);
    return here.last;
  }
  // Nothing reads the values for `rank` any more.
  void drop(std::size_t rank) noexcept {
    if (!of_.empty()) drop(of_[rank]);
  }
  void drop_all() noexcept {
    for (Chunks& one : of_) drop(one);
  }

 private:
  static constexpr std::size_t alignment = alignof(std::max_align_t);
  static constexpr std::size_t first_chunk = 1024;         // bytes; each further one twice as large
  static constexpr std::size_t largest_chunk = 256 << 10;  // unless one value is larger
  struct Chunks {
    std::byte* next = nullptr;  // free from here to end, in the last chunk
    std::byte* end = nullptr;
    std::byte* last = nullptr;  // the newest copy
    std::size_t last_bytes = 0;
    std::vector<std::pair<std::unique_ptr<std::byte[]>, std::size_t>>
        all;  // ascending in size, but for large values
  };

  // Numbers of 8 bytes without a call.
  static bool same(const std::byte* a, const void* b, std::size_t bytes) noexcept {
    if (bytes != 8) return std::memcmp(a, b, bytes) == 0;
    std::uint64_t left, right;
    std::memcpy(&left, a, 8);
    std::memcpy(&right, b, 8);
    return left == right;
  }
  static void add_chunk(Chunks& here, std::size_t wanted) {
    std::size_t size = here.all.empty() ? first_chunk : std::min(2 * here.all.back().second, largest_chunk);
    size = std::max(size, wanted);
    here.all.emplace_back(std::unique_ptr<std::byte[]>(new std::byte[size]), size);
    here.next = here.all.back().first.get();
    here.end = here.next + size;
  }
  static void drop(Chunks& here) noexcept {
    if (here.last_bytes == 0) return;
    here.last_bytes = 0;
    if (here.all.size() > 1) here.all.erase(here.all.begin(), here.all.end() - 1);
    if (here.all.back().second > largest_chunk) {
      here.all.clear();
      here.next = here.end = nullptr;
      return;
    }
    here.next = here.all.back().first.get();
  }

  std::size_t ranks_;
  std::vector<Chunks> of_;  // by rank; empty before the first value
};

}  // namespace manyhands::mpi::detail
