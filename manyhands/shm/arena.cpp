#include "manyhands/shm/arena.hpp"

#include <fmt/core.h>

#include <bit>

#include "manyhands/base/error.hpp"
#include "manyhands/base/memory.hpp"

namespace manyhands::shm {
namespace {

constexpr std::uint64_t smallest_class = 8;  // 256 bytes
constexpr std::uint64_t check_memory_from = std::uint64_t{64} << 20;
constexpr std::uint64_t discard_from = std::uint64_t{1} << 20;  // smaller blocks always keep their pages
constexpr std::uint64_t page = 4096;

}  // namespace

Arena::Arena(Segment& segment, std::uint64_t begin, std::uint64_t size, std::uint64_t cache_bytes) noexcept
    : segment_(&segment), begin_(begin), end_(begin + size), cache_bytes_(cache_bytes) {
  if (header().top.load(std::memory_order_relaxed) == 0)
    header().top.store(begin_ + page, std::memory_order_relaxed);
}

Arena::Header& Arena::header() const noexcept {
  return *reinterpret_cast<Header*>(segment_->data() + begin_);
}

Arena::BlockHeader& Arena::block_header(std::uint64_t block) const noexcept {
  return *reinterpret_cast<BlockHeader*>(segment_->data() + block - sizeof(BlockHeader));
}

std::uint64_t Arena::allocate(std::uint64_t size_bytes) {
  restart_if_empty();
  collect();
  if (size_bytes > end_ - begin_) {
    throw ResourceExhausted(
        fmt::format("a value of {} bytes is larger than the {} MiB of address space that a pool reserves for "
                    "one worker's data",
                    size_bytes, (end_ - begin_) >> 20));
  }
  const auto need = size_bytes + sizeof(BlockHeader);
  const auto size_class =
      std::max<std::uint64_t>(smallest_class, static_cast<std::uint64_t>(std::bit_width(need - 1)));
  const auto size = std::uint64_t{1} << size_class;
  std::uint64_t block = 0;
  if (auto& warm = warm_[size_class]; !warm.empty()) {
    block = warm.back();
    warm.pop_back();
    cached_ -= size;
  } else {
    if (size_bytes >= check_memory_from) require_memory(size_bytes, "a value that travels between processes");
    if (auto& cold = cold_[size_class]; !cold.empty()) {
      block = cold.back();
      cold.pop_back();
    } else {
      const auto top = header().top.load(std::memory_order_relaxed);
      if (size > end_ - top) {
        throw ResourceExhausted(
            fmt::format("no room for a value of {} bytes: {} MiB of the {} MiB reserved for this worker's "
                        "data are in use; take results before sending more",
                        size_bytes, (top - begin_) >> 20, (end_ - begin_) >> 20));
      }
      block = top + sizeof(BlockHeader);
      block_header(block) = {
          .region = begin_, .next = 0, .size_class = static_cast<std::uint32_t>(size_class)};
      header().top.store(top + size, std::memory_order_relaxed);  // read by a successor only after our death
    }
  }
  header().outstanding.fetch_add(1, std::memory_order_relaxed);
  return block;
}

void Arena::release(std::byte* segment_data, std::uint64_t block) noexcept {
  auto& block_header = *reinterpret_cast<BlockHeader*>(segment_data + block - sizeof(BlockHeader));
  auto& header = *reinterpret_cast<Header*>(segment_data + block_header.region);
  auto top = header.returned.load(std::memory_order_relaxed);
  do {
    block_header.next = top;
    // release pairs with the owner's exchange in collect(): it sees `next`, and our reads of the block are
    // done
  } while (!header.returned.compare_exchange_weak(top, block, std::memory_order_release,
                                                  std::memory_order_relaxed));
  // release pairs with restart_if_empty(): who sees zero sees every block on the stack
  header.outstanding.fetch_sub(1, std::memory_order_release);
}

std::uint64_t Arena::outstanding() const noexcept {
  return header().outstanding.load(std::memory_order_acquire);
}

void Arena::collect() noexcept {
  if (header().returned.load(std::memory_order_relaxed) == 0) return;
  auto block = header().returned.exchange(0, std::memory_order_acquire);
  while (block != 0) {
    const auto next = block_header(block).next;
    const auto size_class = block_header(block).size_class;
    const auto size = std::uint64_t{1} << size_class;
    if (size >= discard_from && cached_ + size > cache_bytes_) {
      segment_->discard(block, size - sizeof(BlockHeader));
      cold_[size_class].push_back(block);
    } else {
      warm_[size_class].push_back(block);
      cached_ += size;
    }
    block = next;
  }
}

// A successor does not know the free blocks of the dead owner; this is where they come back.
void Arena::restart_if_empty() noexcept {
  if (outstanding() != 0 || header().top.load(std::memory_order_relaxed) == begin_ + page) return;
  collect();
  if (cached_ != 0) return;  // warm blocks are worth more than a tidy region
  for (auto& list : cold_) list.clear();
  const auto top = header().top.load(std::memory_order_relaxed);
  segment_->discard(begin_ + page, top - begin_ - page);
  header().top.store(begin_ + page, std::memory_order_relaxed);
}

}  // namespace manyhands::shm
