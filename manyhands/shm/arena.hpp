#pragma once
// Arena: blocks of shared memory for arguments and results that are too large to travel inside a message.
//
// One owner allocates; whoever has read a block gives it back with release(), from any process. Blocks are
// recycled, because touching fresh pages costs ten times the copy. Used by process/: the parent owns one
// arena for arguments, each worker one for its results; a block travels as its offset in the segment.
//
// Layout of the region [begin, begin + size) of the segment:
//
//   [ Header : 192 ] then blocks, each [ BlockHeader : 64 ][ bytes ]
//
// Returned blocks form a stack linked by offsets: releasers push with CAS, the
// owner takes the whole stack at once (so there is no ABA). Sizes are powers of two. Each block says whether
// the owner has it: a successor of a dead owner finds the free ones by walking through the region. Once all
// blocks are returned and none keeps pages, the region starts again from its beginning. Source of the return
// stack: R. K. Treiber, "Systems Programming: Coping with Parallelism" (1986).

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "manyhands/shm/segment.hpp"

namespace manyhands::shm {

class Arena {
 public:
  // The owner's handle on the region of `segment` that starts at `begin` (a multiple of 4096). Zero bytes are
  // an empty region; a region that a dead owner left is taken over. At most `cache_bytes` of resident memory
  // are kept for reuse.
  Arena(Segment& segment, std::uint64_t begin, std::uint64_t size, std::uint64_t cache_bytes) noexcept;

  // The offset in the segment of a block of at least `size_bytes`, aligned to 64. Throws ResourceExhausted if
  // the region or (asked for 64 MiB and more) the machine has no room. Owner only, one thread.
  [[nodiscard]] std::uint64_t allocate(std::uint64_t size_bytes);

  // Gives a block back to its owner. Any process, any thread; lock-free. Each block once.
  static void release(std::byte* segment_data, std::uint64_t block) noexcept;

  // Blocks handed out and not yet released, by this owner and those before it.
  std::uint64_t outstanding() const noexcept;

 private:
  enum class BlockState : std::uint32_t { warm, cold, out };  // free with its pages; free without; handed out
  struct Header {
    alignas(64) std::atomic<std::uint64_t> returned;  // top of the stack of released blocks, 0 if empty
    // The stack that the owner is just taking, 0 if none; written by the owner.
    std::atomic<std::uint64_t> taking;
    alignas(64) std::atomic<std::uint64_t> top;          // end of the last block; written by the owner
    alignas(64) std::atomic<std::uint64_t> outstanding;  // owner adds, releasers subtract
  };
  struct alignas(64) BlockHeader {
    std::uint64_t region;           // offset of the region's Header
    std::uint64_t next;             // in the stack of released blocks
    std::uint32_t size_class;       // the block takes 1 << size_class bytes with this header
    std::atomic<BlockState> state;  // written by the owner: a released block is out until it is taken back
  };
  static constexpr std::size_t classes = 48;

  Header& header() const noexcept;
  BlockHeader& block_header(std::uint64_t block) const noexcept;
  void collect() noexcept;
  void take_back(std::uint64_t block) noexcept;
  void keep_free(std::uint64_t block) noexcept;
  void take_over() noexcept;
  void restart_if_empty() noexcept;

  Segment* segment_;
  std::uint64_t begin_;
  std::uint64_t end_;
  std::uint64_t cache_bytes_;
  std::uint64_t cached_ = 0;                              // resident bytes in the free lists
  std::array<std::vector<std::uint64_t>, classes> warm_;  // free blocks whose pages are kept
  std::array<std::vector<std::uint64_t>, classes> cold_;  // free blocks whose pages were given back
};

}  // namespace manyhands::shm
