#pragma once
// Board: how a pool's shared memory is laid out. The parent and its workers see the same bytes; nothing here
// has code beyond finding its parts.
//
//   [ Board ][ WorkerSlot each worker ][ Cell x cell_count ][ Job x job_count ]
//   [ Chunk x max_chunks, each job ][ MessageRing each worker ]
//   [ Arena region of the parent ][ Arena region of each worker ]
//
// The segment is sparse: most of its address space is never touched.
//
// Who owns what:
//   Cell    one call. The parent fills it and makes it `queued`; a worker claims it by one CAS that writes
//           its number; the parent frees it when the outcome has come through the worker's ring, or when the
//           worker is dead.
//   Job     one map. The parent fills it and makes its generation odd; workers claim chunks by one CAS each;
//           the parent makes the generation even when every chunk is done.
//   Slot    one worker's journal: what it is doing, read by the parent when it is dead.
// Every claim names its owner and generation in the same atomic step, so that a death at any instant leaves
// no doubt what was lost. A generation in each word makes stale readers fail.

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "manyhands/shm/arena.hpp"
#include "manyhands/shm/claim_queue.hpp"
#include "manyhands/shm/futex.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/message_ring.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands::process {

inline constexpr std::uint32_t max_workers = 1024;
inline constexpr std::uint32_t cell_count = 4096;
inline constexpr std::uint32_t queue_capacity = 8192;
inline constexpr std::uint32_t job_count = 16;
inline constexpr std::uint32_t max_chunks = 1U << 20;  // of one map
// The same of a pool whose address space is limited: the tables of a million take 800 MB of it.
inline constexpr std::uint32_t max_chunks_if_limited = 1U << 14;
inline constexpr std::size_t ring_capacity = std::size_t{1} << 18;
inline constexpr std::size_t inline_result_limit = std::size_t{1} << 14;  // larger results go into a block
inline constexpr std::size_t out_of_band_from = std::size_t{1}
                                                << 15;  // arrays at least this large are not packed

// ---- One bit per worker.
class WorkerSet {
 public:
  void add(std::uint32_t worker) noexcept { words_[worker / 64].fetch_or(bit(worker)); }
  // Returns whether it was in the set.
  bool remove(std::uint32_t worker) noexcept {
    return (words_[worker / 64].fetch_and(~bit(worker)) & bit(worker)) != 0;
  }
  bool contains(std::uint32_t worker) const noexcept {
    return (words_[worker / 64].load() & bit(worker)) != 0;
  }
  bool empty(std::uint32_t workers) const noexcept {
    for (std::uint32_t word = 0; word * 64 < workers; ++word) {
      if (words_[word].load() != 0) return false;
    }
    return true;
  }
  std::uint32_t count(std::uint32_t workers) const noexcept {
    std::uint32_t sum = 0;
    for (std::uint32_t word = 0; word * 64 < workers; ++word)
      sum += static_cast<std::uint32_t>(__builtin_popcountll(words_[word].load()));
    return sum;
  }
  // Removes and returns one worker; max_workers if the set is empty.
  std::uint32_t take_one(std::uint32_t workers) noexcept {
    for (std::uint32_t word = 0; word * 64 < workers; ++word) {
      auto bits = words_[word].load();
      while (bits != 0) {
        const auto worker = word * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits));
        if (remove(worker)) return worker;
        bits = words_[word].load();
      }
    }
    return max_workers;
  }

 private:
  static std::uint64_t bit(std::uint32_t worker) noexcept { return std::uint64_t{1} << (worker % 64); }
  std::array<std::atomic<std::uint64_t>, max_workers / 64> words_{};
};

// ---- Calls.
enum class CellPhase : std::uint32_t { free = 0, queued = 1, claimed = 2 };

// {generation, phase, worker} in one word.
struct CellState {
  std::uint32_t generation = 0;
  CellPhase phase = CellPhase::free;
  std::uint32_t worker = 0;

  static CellState unpack(std::uint64_t word) noexcept {
    return {.generation = static_cast<std::uint32_t>(word >> 32),
            .phase = static_cast<CellPhase>((word >> 16) & 0xffff),
            .worker = static_cast<std::uint32_t>(word & 0xffff)};
  }
  std::uint64_t pack() const noexcept {
    return (std::uint64_t{generation} << 32) | (static_cast<std::uint64_t>(phase) << 16) | worker;
  }
};

inline constexpr std::size_t cell_inline_bytes = 160;

struct alignas(64) Cell {
  std::atomic<std::uint64_t> state;   // CellState; parent: free <-> queued; worker: queued -> claimed
  std::atomic<std::uint32_t> cancel;  // set by the parent, polled by the task
  std::uint32_t attempt;              // the rest is written by the parent before `queued`
  std::uint64_t number;               // of the call in its pool
  std::int64_t deadline_ns;           // of the run; INT64_MAX without
  std::uint64_t seed;                 // of its random numbers
  wire::Function thunk;
  std::uint32_t inline_size;  // bytes of `call` in use, if block is 0
  std::uint64_t block;        // a Packet in the parent's region, or 0
  std::uint64_t block_size;
  std::array<std::byte, cell_inline_bytes> call;  // the message, if it is short
};

// ---- Maps.
inline constexpr std::uint32_t chunk_open = 0;
inline constexpr std::uint32_t chunk_done = 0xffff'ffff;  // anything else: worker + 1

struct Chunk {
  // {generation of the job : 32, chunk_open | chunk_done | worker + 1 : 32}. A worker's store of chunk_done
  // is the last it does to the job: the parent may use job and chunk for another map from then on.
  std::atomic<std::uint64_t> owner;
  std::uint64_t begin;  // items; written by the parent while no worker owns the chunk
  std::uint64_t end;
  std::uint32_t attempt;    // of its first item: 1, more if a worker died under it
  std::uint32_t worker;     // that ran it last; written by it
  std::int64_t started_ns;  // written by the owner
  std::int64_t completed_ns;
};

constexpr std::uint64_t chunk_owner(std::uint32_t generation, std::uint32_t owner) noexcept {
  return (std::uint64_t{generation} << 32) | owner;
}

struct alignas(64) Job {
  // Odd: being worked on. Release by the parent publishes the fields below.
  std::atomic<std::uint32_t> generation;
  std::atomic<std::uint32_t> stop;  // set by the parent or a worker whose item failed: start no further item
  std::uint32_t chunks;
  std::uint64_t items;
  std::int64_t deadline_ns;  // of one item; INT64_MAX without
  std::uint64_t seed;        // of the items' random numbers
  wire::Function thunk;
  std::uint64_t state_block;  // Packet with f's state
  std::uint64_t state_size;
  std::uint64_t input_block;    // plain items: their array; packed items: array of PackedItem, then the bytes
  std::uint64_t input_address;  // plain items of a forked pool: where they lie in the caller's memory; else 0
  std::uint64_t output_block;   // plain results: their array; 0 otherwise
  std::uint64_t input_place;    // plain items in an mh::Array: the first one's place in the heap; else 0
  std::uint64_t output_place;   // plain results into an mh::Array: the same
  alignas(64)
      std::atomic<std::uint64_t> hint;  // {epoch : 32, first chunk that may be open : 32}; see claim_chunk()
  alignas(
      64) std::atomic<std::uint64_t> ready;  // items whose input is in place; grows while the parent copies
  alignas(64) std::atomic<std::uint64_t> done_items;  // workers add when a chunk ends
  // Chunks; a hint for whom to wake: at or below 0, each end wakes the parent.
  std::atomic<std::int32_t> unfinished;
  // A thread of the parent waits for an item: the end of each chunk wakes it.
  std::atomic<std::uint32_t> wake_each;
};

// Where item i of a map over packed items lies in its input block.
struct PackedItem {
  std::uint64_t begin;  // a Packet
  std::uint64_t size;
};

// ---- Workers.
enum class WorkerPhase : std::uint32_t { starting, running, retired, failed_to_start };

inline constexpr std::uint32_t no_job = 0xffff'ffff;
inline constexpr std::uint64_t doomed = std::uint64_t{1} << 63;

struct alignas(64) WorkerSlot {
  shm::FutexWord sleeping;  // 1 while the worker sleeps on it; who sets it to 0 wakes
  std::atomic<WorkerPhase> phase;
  shm::FutexWord gate;  // 0 while the worker must not begin (ForkTurns)
  // The journal, written by the worker, read by the parent when the worker is dead or late.
  std::atomic<std::uint32_t> cell;        // index + 1 of the cell it runs, 0 if none
  std::atomic<std::uint32_t> job;         // index of the job it works on, or no_job
  std::atomic<std::uint32_t> generation;  // of that job
  std::atomic<std::uint32_t> chunk;       // in that job
  std::atomic<std::uint64_t> item;        // the item it computes
  std::atomic<std::int64_t> started_ns;   // when the cell or (if watched) the item started; 0: nothing runs
  // Counts the begins and ends of its calls and chunks: odd while one runs, which `cell` or `job` names from
  // before its begin. Whoever would kill the worker for the sake of that one adds `doomed`, by one step from
  // the count that it has looked at; the worker, which finds that at the next change, begins nothing more.
  std::atomic<std::uint64_t> turn;
  std::atomic<std::uint64_t> block;  // a block of its region that it is filling, 0 if none
  shm::FutexWord ring_full;          // 1 while it waits for the parent to take results
  // Where it last claimed a task, so that a waiting parent there does not spin.
  std::atomic<std::int32_t> cpu;
  std::atomic<std::uint64_t> tasks_run;  // by this incarnation
  // Written at its start: who it is, where run_worker() lies in the worker, and how many frames are around a
  // task's.
  std::atomic<std::int32_t> pid;
  std::atomic<shm::ThreadToken> thread;  // for the race detector; 0: it does not run
  std::atomic<std::uint64_t> anchor;
  std::atomic<std::uint32_t> outer_frames;
  cpu_set_t cpus;  // where it may run; written by the parent before it starts. Empty: anywhere
  // Written by the crash handler.
  std::atomic<std::uint32_t> crash_frames;  // how many of `crash_stack` are valid
  std::array<void*, 32> crash_stack;
  std::atomic<std::uint64_t> fault;  // the address that could not be accessed
};

struct Board {
  std::uint32_t workers;
  std::uint32_t cores;                 // that this pool's processes can keep busy
  std::uint64_t max_tasks_per_worker;  // 0: no limit
  std::uint64_t memory_limit;          // bytes of private memory that a worker may add; 0: no limit
  wire::Function initializer;
  std::uint64_t initializer_block;  // Packet; 0: none
  std::uint64_t initializer_size;
  std::uint64_t region_size;        // of each arena
  std::uint32_t max_chunks;         // of one map in this pool
  std::int32_t inner_threads;       // that a worker's OpenMP and BLAS may use; negative: as they like
  std::atomic<std::uint32_t> stop;  // 1: workers leave
  // A block that stands for the orders that the race detector has to know: from what was submitted to the
  // workers (Part::first), and from them to the results (Part::second). 0: it is off. Constant.
  shm::Offset order;
  shm::Offset surroundings;  // of the workers (surroundings.hpp); 0: as they are. Constant.

  // The core on which a thread of the parent waits or submitted last; a worker on the same core must not
  // spin.
  alignas(64) std::atomic<std::int32_t> parent_cpu;
  alignas(64) shm::FutexWord parent_sleeping;  // 1 while threads of the parent sleep on it
  // 1: the next result should wake the supervisor if it is wanted.
  std::atomic<std::uint32_t> supervisor_armed;
  std::atomic<std::uint32_t> results_wanted;  // continuations that wait for results nobody may be waiting for
  alignas(64) WorkerSet searching;            // workers that look for work and will find it
  alignas(64) WorkerSet idle;                 // workers asleep; who removes one wakes it
  alignas(64) std::atomic<std::uint32_t> job_limit;  // jobs at and above this index are not active
  alignas(64) shm::ClaimQueue<queue_capacity> queue;
};

// ---- Results, as messages in a worker's ring.
enum class ResultKind : std::uint32_t { value, error, item_value, item_error, start_failed };

struct ResultHeader {
  ResultKind kind;
  std::uint32_t index;       // cell or job
  std::uint32_t generation;  // of it
  std::uint32_t attempt;
  std::uint64_t item;  // of a map
  std::int64_t started_ns;
  std::int64_t completed_ns;
  std::uint64_t block;  // a Packet in the worker's region; 0: the message follows this header
  std::uint64_t block_size;
  std::uint64_t message;  // or a message of the program's heap (message.hpp), for results that name shared
                          // memory; 0: none
};

// ---- Finding the parts.
class Layout {
 public:
  Layout(std::uint32_t workers, std::uint64_t region_size,
         std::uint32_t chunks = process::max_chunks) noexcept
      : workers_(workers), region_size_(region_size), max_chunks_(chunks) {}

  std::uint32_t max_chunks() const noexcept { return max_chunks_; }

  std::uint64_t slots() const noexcept { return round_up(sizeof(Board), 4096); }
  std::uint64_t cells() const noexcept { return slots() + round_up(sizeof(WorkerSlot) * workers_, 4096); }
  std::uint64_t jobs() const noexcept { return cells() + round_up(sizeof(Cell) * cell_count, 4096); }
  std::uint64_t chunks(std::uint32_t job) const noexcept {
    return jobs() + round_up(sizeof(Job) * job_count, 4096) +
           job * round_up(sizeof(Chunk) * max_chunks_, 4096);
  }
  std::uint64_t ring(std::uint32_t worker) const noexcept {
    return chunks(job_count) + worker * round_up(shm::MessageRing::footprint(ring_capacity), 4096);
  }
  std::uint64_t parent_region() const noexcept { return ring(workers_); }
  std::uint64_t worker_region(std::uint32_t worker) const noexcept {
    return parent_region() + (worker + 1) * region_size_;
  }
  std::uint64_t size() const noexcept { return worker_region(workers_); }

 private:
  std::uint32_t workers_;
  std::uint64_t region_size_;
  std::uint32_t max_chunks_;
};

// The parts of a mapped board.
class BoardView {
 public:
  BoardView(std::byte* data, const Layout& layout) noexcept : data_(data), layout_(layout) {}
  explicit BoardView(std::byte* data) noexcept : BoardView(data, layout_of(data)) {}

  Board& board() const noexcept { return *reinterpret_cast<Board*>(data_); }
  WorkerSlot& slot(std::uint32_t worker) const noexcept { return at<WorkerSlot>(layout_.slots())[worker]; }
  Cell& cell(std::uint32_t index) const noexcept { return at<Cell>(layout_.cells())[index]; }
  Job& job(std::uint32_t index) const noexcept { return at<Job>(layout_.jobs())[index]; }
  Chunk& chunk(std::uint32_t job, std::uint32_t index) const noexcept {
    return at<Chunk>(layout_.chunks(job))[index];
  }
  shm::MessageRing ring(std::uint32_t worker) const noexcept {
    return {data_ + layout_.ring(worker), ring_capacity};
  }
  std::byte* bytes(std::uint64_t offset) const noexcept { return data_ + offset; }
  const Layout& layout() const noexcept { return layout_; }

 private:
  static Layout layout_of(const std::byte* data) noexcept {
    const auto& board = *reinterpret_cast<const Board*>(data);
    return {board.workers, board.region_size, board.max_chunks};
  }
  template <class T>
  T* at(std::uint64_t offset) const noexcept {
    return reinterpret_cast<T*>(data_ + offset);
  }

  std::byte* data_;
  Layout layout_;
};

// Whether a worker could claim something now.
bool work_available(const BoardView& view) noexcept;

// The claim of one chunk of a map; `generation` and `job` say of which.
struct ChunkClaim {
  std::uint32_t job;
  std::uint32_t generation;
  std::uint32_t chunk;
};
// Takes the first open chunk of job `index` whose items are in place for `worker` and returns true; false if
// there is none. Lock-free; the death of any other worker does not matter.
bool claim_chunk(const BoardView& view, std::uint32_t index, std::uint32_t worker,
                 ChunkClaim& claim) noexcept;
// Opens a chunk again, of which nobody is the owner. Parent only.
void reopen_chunk(const BoardView& view, const ChunkClaim& claim) noexcept;

}  // namespace manyhands::process
