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
  if (header().top.load(std::memory_order_relaxed) == 0) {
    header().top.store(begin_ + page, std::memory_order_relaxed);
  } else {
    take_over();
  }
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
      BlockHeader& made = block_header(block);
      made.region = begin_;
      made.next = 0;
      made.size_class = static_cast<std::uint32_t>(size_class);
      made.state.store(BlockState::cold, std::memory_order_relaxed);
      header().top.store(top + size, std::memory_order_relaxed);  // read by a successor only after our death
    }
  }
  block_header(block).state.store(BlockState::out, std::memory_order_relaxed);
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
  Header& region = header();
  std::uint64_t top = region.returned.load(std::memory_order_relaxed);
  if (top == 0) return;
  do {
    // Noted before it is taken: if we die in between, the successor finds it by one of the two.
    region.taking.store(top, std::memory_order_relaxed);
  } while (
      !region.returned.compare_exchange_weak(top, 0, std::memory_order_acq_rel, std::memory_order_relaxed));
  while (top != 0) {
    const std::uint64_t next = block_header(top).next;
    take_back(top);
    top = next;
  }
  region.taking.store(0, std::memory_order_release);
}

void Arena::take_back(std::uint64_t block) noexcept {
  BlockHeader& header = block_header(block);
  const auto size = std::uint64_t{1} << header.size_class;
  const bool cold = size >= discard_from && cached_ + size > cache_bytes_;
  header.state.store(cold ? BlockState::cold : BlockState::warm, std::memory_order_relaxed);
  if (cold) segment_->discard(block, size - sizeof(BlockHeader));
  keep_free(block);
}

void Arena::keep_free(std::uint64_t block) noexcept {
  const BlockHeader& header = block_header(block);
  if (header.state.load(std::memory_order_relaxed) == BlockState::cold) {
    cold_[header.size_class].push_back(block);
  } else {
    warm_[header.size_class].push_back(block);
    cached_ += std::uint64_t{1} << header.size_class;
  }
}

// What the dead owner knew of its free blocks.
void Arena::take_over() noexcept {
  Header& region = header();
  // It may have died while it took the stack. Releasers only put blocks on top: if the stack has the noted
  // block in it, it had not taken it yet.
  std::uint64_t taking = region.taking.load(std::memory_order_acquire);
  for (std::uint64_t block = region.returned.load(std::memory_order_acquire); block != 0 && taking != 0;
       block = block_header(block).next) {
    if (block == taking) taking = 0;
  }
  // What of it is free by now is found with the others.
  for (; taking != 0; taking = block_header(taking).next)
    block_header(taking).state.store(BlockState::warm, std::memory_order_relaxed);
  region.taking.store(0, std::memory_order_relaxed);
  const std::uint64_t top = region.top.load(std::memory_order_relaxed);
  for (std::uint64_t block = begin_ + page + sizeof(BlockHeader); block < top;) {
    BlockHeader& found = block_header(block);
    switch (found.state.load(std::memory_order_relaxed)) {
      case BlockState::warm:
        take_back(block);  // within our own budget
        break;
      case BlockState::cold:
        keep_free(block);
        break;
      case BlockState::out:
        break;
    }
    block += std::uint64_t{1} << found.size_class;
  }
}

// What no list holds comes back here: a block that a dead owner had taken and not yet handed on.
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
