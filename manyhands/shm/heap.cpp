#include "manyhands/shm/heap.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/error.hpp"
#include "manyhands/base/memory.hpp"
#include "manyhands/base/unique_fd.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/shm/segment.hpp"

namespace manyhands::shm {
namespace {

constexpr std::uint64_t magic = 0x3270'6165'6868'6d00;  // "mhheap2", little endian; the digit is the version
constexpr std::size_t page = 4096;
constexpr std::size_t large_page = std::size_t{2} << 20;
constexpr std::size_t check_from = std::size_t{16}
                                   << 20;  // bytes: smaller blocks are not worth reading /proc for

// Size classes count the whole block with its header: powers of two up to 1 MiB, then eight steps per
// doubling.
constexpr std::uint32_t smallest_shift = 7;
constexpr std::uint32_t fine_shift = 20;
constexpr std::uint32_t largest_shift = 44;
constexpr std::uint32_t class_count = fine_shift - smallest_shift + 1 + (largest_shift - fine_shift) * 8;

constexpr std::uint64_t class_size(std::uint32_t index) noexcept {
  constexpr std::uint32_t coarse = fine_shift - smallest_shift + 1;
  if (index < coarse) return std::uint64_t{1} << (smallest_shift + index);
  const std::uint32_t fine = index - coarse;
  const std::uint64_t base = std::uint64_t{1} << (fine_shift + fine / 8);
  return base + base / 8 * (fine % 8 + 1);
}
constexpr std::uint32_t class_of(std::uint64_t size) noexcept {
  const auto shift =
      std::max<std::uint32_t>(smallest_shift, static_cast<std::uint32_t>(std::bit_width(size - 1)));
  if (shift <= fine_shift) return shift - smallest_shift;
  const std::uint64_t base = std::uint64_t{1} << (shift - 1);
  const auto step = static_cast<std::uint32_t>((size - base + base / 8 - 1) / (base / 8));  // 1..8
  return fine_shift - smallest_shift + 1 + (shift - 1 - fine_shift) * 8 + step - 1;
}
static_assert(class_size(class_of(128)) == 128 && class_size(class_of(129)) == 256);
constexpr std::uint64_t mebibyte = 1 << 20;
static_assert(class_size(class_of(mebibyte)) == mebibyte &&
              class_size(class_of(mebibyte + 1)) == mebibyte / 8 * 9);
static_assert(class_size(class_of(2 * mebibyte)) == 2 * mebibyte &&
              class_size(class_of(2 * mebibyte + 1)) == 2 * mebibyte / 8 * 9);

struct HeapHeader {
  std::uint64_t magic;
  std::uint64_t size;                // of the mapping, bytes
  std::uint64_t cache_budget;        // bytes of pages that free blocks may keep
  std::uint64_t first_block;         // where blocks begin
  std::atomic<std::uint64_t> top;    // where the next new block begins
  std::atomic<std::int64_t> cached;  // bytes of pages in free blocks
  std::atomic<std::int64_t> in_use;  // blocks
  std::array<std::atomic<std::uint32_t>, static_cast<std::size_t>(BlockKind::count_)> numbers;
  std::atomic<std::int32_t> cpu_tokens_taken;
  std::atomic<std::int64_t> last_sweep_ns;  // written by who sweeps for all that wait
  std::atomic<Offset> race_root;            // written once, by the first that needs it
  // Free lists: [ tag : 20 ][ payload offset / 64 : 44 ]. The tag changes with every push, so that a pop that
  // was overtaken fails.
  std::array<std::atomic<std::uint64_t>, class_count> free;
};

constexpr std::size_t processes_at = round_up(sizeof(HeapHeader), page);
constexpr std::size_t threads_at = round_up(processes_at + max_processes * process_slot_size, page);
constexpr std::size_t sites_at = round_up(threads_at + max_threads * thread_slot_size, page);
constexpr std::size_t tables_end = round_up(sites_at + max_sites * site_size, large_page);

// This process's mapping; written once by ensure_heap().
std::byte* base = nullptr;
int fd = -1;
std::atomic<bool> ready{false};
std::once_flag once;
std::array<void (*)(Offset), static_cast<std::size_t>(BlockKind::count_)> tidiers{};

HeapHeader& header() noexcept { return *reinterpret_cast<HeapHeader*>(base); }

std::uint64_t machine_memory() noexcept {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void* map(int memory, std::size_t size) noexcept {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
  // A core file would otherwise be as large as the address space reserved here.
  if (address != MAP_FAILED) ::madvise(address, size, MADV_DONTDUMP);
  return address;
}

// The heap of the process that started this one by exec; false if there is none. Not for programs with more
// rights than their caller, and no file that a caller could have made.
bool adopt() {
  const char* text = ::secure_getenv(heap_variable);
  if (text == nullptr) return false;
  int number = -1;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), number);
  const bool is_number = error == std::errc{} && *end == '\0';
  ::unsetenv(heap_variable);  // our children do not have that descriptor
  struct stat info{};
  if (!is_number || !is_sealed(number) || ::fstat(number, &info) != 0 ||
      static_cast<std::size_t>(info.st_size) < tables_end)
    return false;
  void* address = map(number, static_cast<std::size_t>(info.st_size));
  if (address == MAP_FAILED) return false;
  const auto& header = *static_cast<const HeapHeader*>(address);
  if (header.magic != magic || header.size != static_cast<std::uint64_t>(info.st_size)) {
    ::munmap(address, static_cast<std::size_t>(info.st_size));
    return false;
  }
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  base = static_cast<std::byte*>(address);
  fd = number;
  return true;
}

void create() {
  fill_standard_descriptors();
  UniqueFd memory(::memfd_create("manyhands-heap", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) throw_errno("create the program's shared memory");
  // Address space is reserved once and for all; memory is taken page by page as it is touched. A limit on
  // address space (ulimit -v) is meant for the program: take an eighth at most, and as much for all pools.
  std::uint64_t size = std::max<std::uint64_t>(machine_memory() * 8, std::uint64_t{1} << 32);
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    size = std::min(size, limit.rlim_cur / 8);
  size = std::max(round_up(size, large_page), tables_end + 4 * large_page);
  void* address = MAP_FAILED;
  int error = 0;
  for (;; size = round_up(size / 2, large_page)) {
    error = resize(memory.get(), size);
    if (error == 0) address = map(memory.get(), size);
    if (address != MAP_FAILED || size / 2 < tables_end + 4 * large_page) break;
  }
  if (address == MAP_FAILED) {
    throw SystemError(
        fmt::format("reserve {} MiB of address space for shared memory (see ulimit -v and ulimit -f)",
                    size >> 20),
        error != 0 ? error : errno);
  }
  seal(memory.get());
  base = static_cast<std::byte*>(address);
  HeapHeader& heap = header();
  heap.size = size;
  heap.cache_budget = std::min(machine_memory() / 8, std::uint64_t{4} << 30);
  heap.first_block = tables_end;
  heap.top = tables_end;
  heap.magic = magic;
  fd = memory.release();
}

// ---- Free lists.

constexpr std::uint64_t place_bits = 44;
constexpr std::uint64_t place_mask = (std::uint64_t{1} << place_bits) - 1;

Offset pop(std::uint32_t index) noexcept {
  auto& list = header().free[index];
  std::uint64_t head = list.load(std::memory_order_acquire);
  for (;;) {
    const Offset payload = (head & place_mask) * 64;
    if (payload == 0) return 0;
    // The block may be popped and in use by now; then the tag has changed and the exchange fails.
    const std::uint64_t next = header_of(payload).next.load(std::memory_order_relaxed);
    const std::uint64_t wanted = (head & ~place_mask) | (next / 64);
    // acquire: what the last owner wrote into the header is seen
    if (list.compare_exchange_weak(head, wanted, std::memory_order_acquire)) return payload;
  }
}

void push(std::uint32_t index, Offset payload) noexcept {
  auto& list = header().free[index];
  std::uint64_t head = list.load(std::memory_order_relaxed);
  for (;;) {
    header_of(payload).next.store((head & place_mask) * 64, std::memory_order_relaxed);
    const std::uint64_t tag = (head >> place_bits) + 1;
    if (list.compare_exchange_weak(head, (tag << place_bits) | (payload / 64), std::memory_order_release))
      return;
  }
}

// A new block at the top of the heap; 0 if it is full.
Offset carve(std::uint32_t index) noexcept {
  HeapHeader& heap = header();
  const std::uint64_t size = class_size(index);
  // Small blocks are carved a page at a time, so that they share pages.
  const std::uint64_t run = std::max<std::uint64_t>(size, page);
  const std::uint64_t alignment = size >= large_page ? large_page : page;
  std::uint64_t top = heap.top.load(std::memory_order_relaxed);
  std::uint64_t begin = 0;
  do {
    begin = round_up(top, alignment);
    if (begin + run > heap.size) return 0;
  } while (!heap.top.compare_exchange_weak(top, begin + run, std::memory_order_relaxed));
  for (std::uint64_t block = begin; block + size <= begin + run; block += size) {
    auto& made = *reinterpret_cast<BlockHeader*>(base + block);
    made.size_class = index;
    if (block != begin) push(index, block + sizeof(BlockHeader));
  }
  return begin + sizeof(BlockHeader);
}

// Frees the whole pages of a free block's payload.
void discard(Offset payload) noexcept {
  BlockHeader& block = header_of(payload);
  const std::uint64_t begin = round_up(payload, page);
  const std::uint64_t end = round_up(payload + block.touched, page);
  const std::uint64_t block_end = payload - sizeof(BlockHeader) + class_size(block.size_class);
  if (begin >= std::min(end, block_end)) return;
  ::madvise(base + begin, std::min(end, block_end) - begin, MADV_REMOVE);
  block.touched = std::min<std::uint64_t>(block.touched, begin - payload);
}

bool keeps_pages(const BlockHeader& block) noexcept { return block.touched >= page; }

}  // namespace

const char* name_of(BlockKind kind) noexcept {
  static constexpr const char* names[] = {"memory",  "holdings",  "Array",   "Value", "Lock",    "Semaphore",
                                          "Event",   "Condition", "Barrier", "Queue", "message", "Connection",
                                          "Process", "clock",     "tokens",  "name"};
  static_assert(std::size(names) == static_cast<std::size_t>(BlockKind::count_));
  return kind < BlockKind::count_ ? names[static_cast<std::size_t>(kind)] : "?";
}

void ensure_heap() {
  if (ready.load(std::memory_order_acquire)) return;
  std::call_once(once, [] {
    ::unsetenv(heap_variable);  // it is for those who ask for it by adopt_heap()
    create();
    ready.store(true, std::memory_order_release);
  });
}

bool adopt_heap() {
  bool adopted = false;
  std::call_once(once, [&] {
    if (!adopt()) {
      create();  // once is once
    } else {
      adopted = true;
    }
    ready.store(true, std::memory_order_release);
  });
  return adopted;
}

bool have_heap() noexcept { return ready.load(std::memory_order_acquire); }

Offset allocate(std::size_t size, BlockKind kind) { return allocate(size, kind, Zero::yes); }

Offset allocate(std::size_t size, BlockKind kind, Zero zero) {
  ensure_heap();
  HeapHeader& heap = header();
  if (size > heap.size - heap.first_block) {
    throw ResourceExhausted(
        fmt::format("{} of {} bytes: the program's shared memory has address space for {} GiB only",
                    name_of(kind), size, (heap.size - heap.first_block) >> 30));
  }
  const std::uint32_t index = class_of(size + sizeof(BlockHeader));
  Offset payload = pop(index);
  const std::uint64_t warm = payload != 0 ? header_of(payload).touched : 0;
  if (warm >= page) heap.cached.fetch_sub(static_cast<std::int64_t>(warm), std::memory_order_relaxed);
  if (size >= check_from && size > warm) {
    try {
      const std::string what = fmt::format("{} of {} bytes", name_of(kind), size);
      try {
        require_memory(size - warm, what.c_str());
      } catch (const ResourceExhausted&) {
        sweep();  // what dead processes held, and what free blocks keep, may be enough
        trim();
        require_memory(size - warm, what.c_str());
      }
    } catch (...) {
      if (payload != 0) {
        heap.cached.fetch_add(static_cast<std::int64_t>(warm), std::memory_order_relaxed);
        push(index, payload);
      }
      throw;
    }
  }
  if (payload == 0) payload = carve(index);
  for (std::uint32_t larger = index + 1; payload == 0 && larger < class_count; ++larger)
    payload = pop(larger);
  if (payload == 0) {
    throw ResourceExhausted(
        fmt::format("{} of {} bytes: the address space of the program's shared memory, {} GiB, is used up by "
                    "blocks of other sizes",
                    name_of(kind), size, heap.size >> 30));
  }
  BlockHeader& block = header_of(payload);
  block.kind = kind;
  block.size = size;
  block.type = 0;
  block.dirty = std::min<std::uint64_t>(block.touched, size);
  if (zero == Zero::yes) clear(payload);
  block.touched = std::max<std::uint64_t>(block.touched, size);
  block.number = heap.numbers[static_cast<std::size_t>(kind)].fetch_add(1, std::memory_order_relaxed) + 1;
  heap.in_use.fetch_add(1, std::memory_order_relaxed);
  block.refs.store(1,
                   std::memory_order_release);  // pairs with try_ref(): who can refer to it sees the header
  return payload;
}

void clear(Offset payload) noexcept {
  BlockHeader& block = header_of(payload);
  if (block.dirty > 0) std::memset(base + payload, 0, block.dirty);
  block.dirty = 0;
}

BlockHeader& header_of(Offset payload) noexcept {
  return *reinterpret_cast<BlockHeader*>(base + payload - sizeof(BlockHeader));
}

std::byte* address_of_block(Offset payload) noexcept { return base + payload; }

Offset offset_of(const void* address) noexcept {
  const auto* place = static_cast<const std::byte*>(address);
  if (!have_heap() || place < base || place >= base + header().size) return 0;
  return static_cast<Offset>(place - base);
}

bool is_block(Offset payload, BlockKind kind) noexcept {
  if (!have_heap() || payload % 64 != 0 || payload < header().first_block + sizeof(BlockHeader) ||
      payload >= header().top.load(std::memory_order_relaxed))
    return false;
  const BlockHeader& block = header_of(payload);
  return block.kind == kind && block.refs.load(std::memory_order_relaxed) != 0;
}

void add_ref(Offset payload) noexcept { header_of(payload).refs.fetch_add(1, std::memory_order_relaxed); }

bool try_ref(Offset payload) noexcept {
  auto& refs = header_of(payload).refs;
  std::uint32_t now = refs.load(std::memory_order_relaxed);
  while (now != 0) {
    if (refs.compare_exchange_weak(now, now + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

void release(Offset payload) noexcept {
  BlockHeader& block = header_of(payload);
  // acq_rel: the last one sees what all others did with the block
  if (block.refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  HeapHeader& heap = header();
  if (const auto tidy = tidiers[static_cast<std::size_t>(block.kind)]; tidy != nullptr) tidy(payload);
  if (keeps_pages(block)) {
    const auto bytes = static_cast<std::int64_t>(block.touched);
    if (heap.cached.fetch_add(bytes, std::memory_order_relaxed) + bytes >
        static_cast<std::int64_t>(heap.cache_budget)) {
      heap.cached.fetch_sub(bytes, std::memory_order_relaxed);
      discard(payload);
      if (keeps_pages(block)) heap.cached.fetch_add(static_cast<std::int64_t>(block.touched));
    }
  }
  heap.in_use.fetch_sub(1, std::memory_order_relaxed);
  push(block.size_class, payload);
}

void on_last_release(BlockKind kind, void (*tidy)(Offset payload)) noexcept {
  tidiers[static_cast<std::size_t>(kind)] = tidy;
}

void trim() noexcept {
  if (!have_heap()) return;
  for (std::uint32_t index = class_of(page); index < class_count; ++index) {
    // Each block is taken off the list while its pages go, and all go back afterwards.
    Offset taken = 0;
    while (const Offset payload = pop(index)) {
      BlockHeader& block = header_of(payload);
      if (keeps_pages(block)) {
        header().cached.fetch_sub(static_cast<std::int64_t>(block.touched), std::memory_order_relaxed);
        discard(payload);
        if (keeps_pages(block)) header().cached.fetch_add(static_cast<std::int64_t>(block.touched));
      }
      block.next.store(taken, std::memory_order_relaxed);
      taken = payload;
    }
    while (taken != 0) {
      const Offset next = header_of(taken).next.load(std::memory_order_relaxed);
      push(index, taken);
      taken = next;
    }
  }
}

std::atomic<std::int32_t>& cpu_tokens_taken() noexcept { return header().cpu_tokens_taken; }
std::atomic<std::int64_t>& last_sweep_ns() noexcept { return header().last_sweep_ns; }
std::atomic<Offset>& race_root() noexcept { return header().race_root; }

int heap_fd() noexcept { return fd; }

HeapStatistics heap_statistics() noexcept {
  if (!have_heap()) return {};
  const HeapHeader& heap = header();
  return {.reserved = heap.size,
          .carved = heap.top.load() - heap.first_block,
          .cached = static_cast<std::uint64_t>(std::max<std::int64_t>(heap.cached.load(), 0)),
          .allocated = static_cast<std::uint64_t>(std::max<std::int64_t>(heap.in_use.load(), 0))};
}

Tables tables() noexcept { return {base + processes_at, base + threads_at, base + sites_at}; }

std::span<std::byte> mapping() noexcept { return {base, header().size}; }

const BlockHeader* header_in(const HeapView& heap, Offset payload, std::size_t refreshed) {
  const std::size_t size = heap.mapping.size();
  if (payload % 64 != 0 || payload < tables_end + sizeof(BlockHeader) || payload >= size) return nullptr;
  const std::byte* const at = heap.mapping.data() + payload;
  heap.refresh(at - sizeof(BlockHeader), sizeof(BlockHeader) + std::min(refreshed, size - payload));
  const auto* block = reinterpret_cast<const BlockHeader*>(at - sizeof(BlockHeader));
  return block->size <= size - payload ? block : nullptr;
}

std::size_t size_of_tables() noexcept { return tables_end; }

Tables tables_in(std::span<std::byte> mapping) {
  if (mapping.size() < tables_end || reinterpret_cast<const HeapHeader*>(mapping.data())->magic != magic)
    throw Error("this is not the shared memory of a manyhands program, or of one of another version");
  return {mapping.data() + processes_at, mapping.data() + threads_at, mapping.data() + sites_at};
}

}  // namespace manyhands::shm
