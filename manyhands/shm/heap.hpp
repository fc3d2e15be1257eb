#pragma once
// Heap: the shared memory of a program, one for all of its processes.
//
// One sparse memfd, mapped before the first child is forked, so that every process of the program has it from
// birth: an Array, a Lock, a Queue's messages are places in it, and passing one means passing an offset. It
// has no name; it is gone when the last process of the program is gone, however that ended. Blocks that are
// given back keep their pages up to a budget, since a fresh page costs ten times a warm one.
//
// Layout: [ HeapHeader ][ tables of participants.cpp ][ table of sites.cpp ][ blocks ],
// each block [ BlockHeader ][ payload ].
//
// Invariants: a block is on the free list of its size class iff nobody refers to it (refs == 0); payloads
// lie on multiples of 64 bytes; offsets are counted from the start of the mapping, which may lie elsewhere in
// a process that was started by exec.
//
// Any process. No operation takes a lock: a process that is killed in one leaves at worst one block unused
// until the program ends. Source: R. Treiber, "Systems Programming: Coping with Parallelism" (1986), for the
// free lists.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace manyhands::shm {

// What a block holds. Decides who tidies up when it is given back (on_last_release).
enum class BlockKind : std::uint32_t {
  raw,
  holdings,  // participants.cpp
  array,
  value,
  lock,
  semaphore,
  event,
  condition,
  barrier,
  queue,
  message,  // of a queue
  connection,
  process,
  clock,   // a vector clock of the race detector
  tokens,  // CPU tokens that a pool took
  name,    // the name of a NamedArray
  count_,
};
const char* name_of(BlockKind kind) noexcept;  // "Lock"

struct BlockHeader {
  // Processes that hold the block, and messages under way that name it; 0: free.
  std::atomic<std::uint32_t> refs;
  std::uint32_t size_class;  // constant once the block exists
  BlockKind kind;
  std::uint32_t number;             // of this kind in this program, from 1: "Lock 3"
  std::uint64_t size;               // bytes of payload that were asked for
  std::uint64_t touched;            // bytes of payload that may hold pages; written by who owns the block
  std::atomic<std::uint64_t> next;  // the next free block of the class, or 0
  std::uint64_t type;               // of the elements, for arrays and values: see shared.hpp
  std::uint64_t dirty;              // bytes of payload that hold what an earlier user wrote; the rest is zero
  std::uint64_t watched;  // the race detector's, also from one use of the block to the next; 0: nothing
};
static_assert(sizeof(BlockHeader) == 64);

// A payload's place: bytes from the start of the heap; 0 is nowhere.
using Offset = std::uint64_t;

// Maps the heap, creating it if this program has none yet. Cheap after the first call. Throws SystemError.
void ensure_heap();
// In a process that was started by exec: maps the heap that it inherited; false if there is none, or if what
// is named as it is not one of ours. Before ensure_heap().
[[nodiscard]] bool adopt_heap();
bool have_heap() noexcept;

// A zeroed block of `size` bytes with refs == 1; size 0 is allowed. Throws ResourceExhausted with the numbers
// if the machine or the cgroup has not enough memory left (asked for blocks of at least 16 MiB), or if the
// heap is full.
Offset allocate(std::size_t size, BlockKind kind);
enum class Zero { yes, no };
// As above; with Zero::no a reused block keeps its old contents.
Offset allocate(std::size_t size, BlockKind kind, Zero zero);
// Zeroes what an earlier user left in a block that was allocated with Zero::no.
void clear(Offset payload) noexcept;

BlockHeader& header_of(Offset payload) noexcept;
std::byte* address_of_block(Offset payload) noexcept;
template <class T>
T& at(Offset payload) noexcept {
  return *reinterpret_cast<T*>(address_of_block(payload));
}
// The offset of an address inside the heap; 0 if it lies elsewhere.
Offset offset_of(const void* address) noexcept;
// Whether a block of `kind` can lie at `offset`: for offsets that came in a message.
bool is_block(Offset payload, BlockKind kind) noexcept;

// One more holder. add_ref requires that the caller knows of one that stays meanwhile; try_ref fails if there
// is none.
void add_ref(Offset payload) noexcept;
[[nodiscard]] bool try_ref(Offset payload) noexcept;
// One holder less; the last one frees the block.
void release(Offset payload) noexcept;
// Called with the payload's address before a block of `kind` is freed, in whichever process was the last to
// hold it. One function per kind, set before the first such block exists (each kind's own source does it).
void on_last_release(BlockKind kind, void (*tidy)(Offset payload)) noexcept;

// Gives the pages of all free blocks back to the machine.
void trim() noexcept;

// The heap's memfd, to hand on to a process that is started by exec: it finds the number in the environment.
int heap_fd() noexcept;
inline constexpr const char* heap_variable = "MANYHANDS_HEAP_FD";

// The program's CPU tokens that are taken (process/placement.hpp).
std::atomic<std::int32_t>& cpu_tokens_taken() noexcept;

// When somebody swept because a wait lasted (participants.hpp): now_ns().
std::atomic<std::int64_t>& last_sweep_ns() noexcept;

// Where the race detector keeps what belongs to the program (race.cpp); 0 as long as it is not used.
std::atomic<Offset>& race_root() noexcept;

struct HeapStatistics {
  std::uint64_t reserved;   // bytes of address space
  std::uint64_t carved;     // bytes of it that were ever part of a block
  std::uint64_t cached;     // bytes of pages kept in free blocks
  std::uint64_t allocated;  // blocks in use
};
HeapStatistics heap_statistics() noexcept;

// ---- For participants.cpp and sites.cpp: their parts of the heap's start.

struct Tables {
  std::byte* processes;
  std::byte* threads;
  std::byte* sites;
};
inline constexpr std::uint32_t max_processes = 1024;
inline constexpr std::uint32_t max_threads = 8192;
inline constexpr std::uint32_t max_sites = 4096;
inline constexpr std::size_t process_slot_size = 256;
inline constexpr std::size_t thread_slot_size = 128;
inline constexpr std::size_t site_size = 256;
Tables tables() noexcept;
// The same for another program's heap; throws Error if it is none, or of another version.
Tables tables_in(std::span<std::byte> mapping);
// Bytes from a heap's start to the end of its tables.
std::size_t size_of_tables() noexcept;

// Memory that is a copy of another program's heap: refresh() is called before anything there is looked at, so
// that only what is looked at need be copied, and twice where two looks must agree.
class HeapSource {
 public:
  virtual void refresh(const void* at, std::size_t bytes) = 0;

 protected:
  ~HeapSource() = default;
};

// A heap to read: this program's, or (with a source) a copy of another one's, of which nothing is believed.
struct HeapView {
  std::span<std::byte> mapping;
  Tables tables;
  HeapSource* source = nullptr;

  void refresh(const void* at, std::size_t bytes) const {
    if (source != nullptr) source->refresh(at, bytes);
  }
};

// This program's heap as it is mapped here. Requires ensure_heap().
std::span<std::byte> mapping() noexcept;
// The header of the block at `payload` in any heap; nullptr if none can lie there. The first `refreshed`
// bytes of the payload are up to date as well.
const BlockHeader* header_in(const HeapView& heap, Offset payload, std::size_t refreshed = 0);

}  // namespace manyhands::shm
