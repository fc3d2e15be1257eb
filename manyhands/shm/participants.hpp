#pragma once
// Participants: the processes and threads of a program that use its shared memory, who they are and whether
// they live.
//
// A process enters itself when it first holds a block, a thread when it first takes a lock. Both are told
// apart from later ones with the same number by their start times. What a process holds is listed where
// others can read it: when it is killed, whoever finds out (the zygote at once) gives its blocks back.
//
// Any process, any thread.

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/sites.hpp"

namespace manyhands::shm {

// A thread of some process of this program; 0 is none. 31 bits: [ generation : 18 ][ slot : 13 ].
using ThreadToken = std::uint32_t;

// What a thread waits for, as others see it. Written by that thread alone; `sequence` is odd while it waits.
struct Waiting {
  std::atomic<std::uint32_t> sequence;
  std::atomic<Site> site;
  std::atomic<Offset> target;           // the block waited for
  std::atomic<std::int64_t> since_ns;   // now_ns()
  std::atomic<std::uint32_t> bounded;   // 1: the wait has a time limit, and is part of no deadlock
  std::atomic<ThreadToken> for_thread;  // for a wait that ends with a thread (Process::join), else 0
};

namespace detail {
inline constinit thread_local ThreadToken this_thread = 0;
ThreadToken register_thread() noexcept;
}  // namespace detail

// The calling thread; enters it if it is new. Ends the program with a message if max_threads live at once.
inline ThreadToken this_thread_token() noexcept {
  const ThreadToken token = detail::this_thread;
  return token != 0 ? token : detail::register_thread();
}

// Where `token`'s waits are published; valid while the thread lives.
Waiting& waiting_of(ThreadToken token) noexcept;

struct ThreadInfo {
  std::string name;  // "worker 3", "Process-1", "main", with "/TID" for threads beside the main one
  pid_t pid = 0;
  pid_t tid = 0;
  bool alive = false;
};
// Who `token` is or was. The name of a thread that ended long ago may be unknown.
ThreadInfo describe_thread(ThreadToken token);
ThreadInfo describe_thread(ThreadToken token, const Tables& where);
// Whether the thread can still do anything: false if it ended, or its process did (a zombie counts as ended).
// Reads /proc: some microseconds.
bool is_alive(ThreadToken token) noexcept;
// Whether it is known that the thread ended, without asking the system: false also for one that was killed
// and not yet swept. Some nanoseconds.
bool has_left(ThreadToken token) noexcept;

// Whether the thread sleeps in the kernel: neither runs, nor could, nor was stopped. False in doubt. Reads
// /proc.
bool is_asleep(ThreadToken token) noexcept;

// All threads that have an entry, also those that were killed and not yet swept.
std::vector<ThreadToken> entered_threads();
// All threads that have an entry and live.
std::vector<ThreadToken> live_threads();
std::vector<ThreadToken> live_threads(const Tables& where);
Waiting& waiting_of(ThreadToken token, const Tables& where) noexcept;

// Names this process for reports; without it, "main" or "process PID". Threads entered from now on carry it.
void name_this_process(std::string_view name) noexcept;
std::string this_process_name();

// ---- A thread that is none: a fiber of mh::explore. While it runs, it is "this thread".

ThreadToken enter_fiber(std::string_view name) noexcept;
void leave_fiber(ThreadToken token) noexcept;
// Makes `token` the calling thread's; returns the one before.
ThreadToken exchange_this_thread(ThreadToken token) noexcept;

// ---- What processes hold.

// Lists `payload` as held by this process, which takes over one reference that the caller has; unhold()
// releases it. Called by block.cpp, once per block and process.
struct HoldEntry {
  Offset chunk = 0;
  std::uint32_t index = 0;
};
HoldEntry hold(Offset payload);
void unhold(Offset payload, HoldEntry entry) noexcept;

// The live processes that hold the block. Reads /proc.
std::vector<pid_t> holders_of(Offset payload);
// Messages of this process that name blocks and have no references to them, as those in a pool's board: one
// more or fewer. names_nothing: whether a process has none; false in doubt.
void count_named(int change) noexcept;
bool names_nothing(pid_t pid) noexcept;
// How many threads the process has; 0 if that cannot be found out.
std::size_t threads_of(pid_t pid) noexcept;

// All blocks of one kind that any process holds, each once.
std::vector<Offset> held_blocks(BlockKind kind);
// The same in any heap.
std::vector<Offset> held_blocks(BlockKind kind, const HeapView& heap);

// Gives back what dead processes held. Cheap when none died; `only` limits it to that process. Called by the
// zygote after each child's end, and by waits.
void sweep(pid_t only = 0) noexcept;
// To be called, too, by each process whose wait lasts: for what the layers above know of processes that are
// gone.
void also_sweep(void (*look)()) noexcept;
// The same for waits that last, of which there may be many: one of them does it, every 200 ms.
void sweep_now_and_then() noexcept;

// A process, told apart from later ones with its number.
struct ProcessStart {
  std::int64_t pid = 0;
  std::uint64_t start = 0;  // clock ticks since boot
};
ProcessStart this_process_start() noexcept;
// Reads /proc.
bool process_lives(const ProcessStart& process) noexcept;

// The number of processes that have an entry and live.
std::size_t live_processes() noexcept;

}  // namespace manyhands::shm
