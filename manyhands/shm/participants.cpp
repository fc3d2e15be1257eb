#include "manyhands/shm/participants.hpp"

#include "manyhands/shm/race.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "manyhands/base/clock.hpp"

namespace manyhands::shm {
namespace {

constexpr std::size_t name_words = 6;  // 48 bytes
using Name = std::array<std::atomic<std::uint64_t>, name_words>;

void write_name(Name& name, std::string_view text) noexcept {
  std::array<char, name_words * 8> padded{};
  std::copy_n(text.data(), std::min(text.size(), padded.size() - 1), padded.data());
  for (std::size_t i = 0; i < name_words; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, padded.data() + i * 8, 8);
    name[i].store(word, std::memory_order_relaxed);
  }
}

std::string read_name(const Name& name) {
  std::array<char, name_words * 8 + 1> text{};
  for (std::size_t i = 0; i < name_words; ++i) {
    const std::uint64_t word = name[i].load(std::memory_order_relaxed);
    std::memcpy(text.data() + i * 8, &word, 8);
  }
  return text.data();
}

// A process. `pid` is set first, by compare-and-swap from 0; the rest follows, written by that process. Freed
// by the sweeper, which wrote its own number into `sweeper` before.
struct alignas(process_slot_size) ProcessSlot {
  std::atomic<std::int32_t> pid;
  std::atomic<std::uint32_t> sweeper;  // 0, or pid of the process that sweeps this slot
  std::atomic<std::uint64_t> start;    // clock ticks since boot, from /proc; 0: not yet written
  std::atomic<Offset> holdings;        // the first chunk
  Name name;
  std::atomic<std::int32_t> named;  // see count_named(); by that process
};
static_assert(sizeof(ProcessSlot) == process_slot_size);

enum ThreadState : std::uint32_t { never_used, used, ended };

struct alignas(thread_slot_size) ThreadSlot {
  std::atomic<std::uint32_t> state;
  std::atomic<std::uint32_t> generation;  // 1...; changes when the slot is used again
  std::atomic<std::int32_t> pid;
  std::atomic<std::int32_t> tid;  // 0: a fiber
  std::atomic<std::uint64_t> process_start;
  std::atomic<std::uint64_t> start;  // of the thread
  Waiting waiting;
  Name name;
};
static_assert(sizeof(ThreadSlot) == thread_slot_size);

constexpr std::uint32_t slot_bits = 13;
constexpr std::uint32_t slot_mask = (1U << slot_bits) - 1;
constexpr std::uint32_t generation_mask = (1U << 18) - 1;
static_assert(max_threads == 1U << slot_bits);

// What a process holds: a list of chunks, written by that process alone.
struct HoldChunk {
  static constexpr std::uint32_t entries = 500;
  std::atomic<Offset> next;
  std::array<std::atomic<Offset>, entries> held;  // 0: empty
};

ProcessSlot* processes_in(const Tables& tables) noexcept {
  return reinterpret_cast<ProcessSlot*>(tables.processes);
}
ThreadSlot* threads_in(const Tables& tables) noexcept {
  return reinterpret_cast<ThreadSlot*>(tables.threads);
}
ProcessSlot* processes() noexcept { return processes_in(tables()); }
ThreadSlot* threads() noexcept { return threads_in(tables()); }
ThreadSlot& slot_of(ThreadToken token, const Tables& tables) noexcept {
  return threads_in(tables)[token & slot_mask];
}
bool is_current(ThreadToken token, const ThreadSlot& slot) noexcept {
  return slot.generation.load(std::memory_order_acquire) == token >> slot_bits;
}

// State letter and start time from /proc/PID[/task/TID]/stat.
struct Stat {
  char state = 0;
  std::uint64_t threads = 0;  // of a process
  std::uint64_t start = 0;
};
// gone: /proc does not have it, which is no sign of death by itself: /proc may not be there, as in a chroot,
// or not show the processes of others. unknown: it could not be read, as when this process has no descriptor
// left.
enum class Look { gone, seen, unknown };

// Whether /proc is that of this process's pid namespace. Looked at once.
bool proc_is_ours() noexcept {
  static std::atomic<int> known{0};  // 1: yes, 2: no
  int now = known.load(std::memory_order_relaxed);
  if (now == 0) {
    std::array<char, 16> target{};
    const ssize_t size = ::readlink("/proc/self", target.data(), target.size() - 1);
    now = size < 0 || std::atol(target.data()) == ::getpid() ? 1 : 2;
    known.store(now, std::memory_order_relaxed);
  }
  return now == 1;
}

Look read_stat(const char* path, Stat& stat) noexcept {
  if (!proc_is_ours()) return Look::unknown;
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ESRCH ? Look::gone : Look::unknown;
  std::array<char, 1024> text{};
  const ssize_t size = ::read(fd, text.data(), text.size() - 1);
  ::close(fd);
  if (size <= 0) return Look::gone;                 // ended since it was opened
  const char* at = std::strrchr(text.data(), ')');  // the name before may hold anything
  if (at == nullptr || at[1] == '\0') return Look::unknown;
  at += 2;
  stat.state = *at;
  for (int field = 3; field < 22 && at != nullptr; ++field) {
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
    if (at != nullptr && field == 19) stat.threads = std::strtoull(at, nullptr, 10);
  }
  stat.start = at != nullptr ? std::strtoull(at, nullptr, 10) : 0;
  return Look::seen;
}
Look read_process_stat(pid_t pid, Stat& stat) noexcept {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", pid);
  return read_stat(path.data(), stat);
}
Look read_thread_stat(pid_t pid, pid_t tid, Stat& stat) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/task/%d/stat", pid, tid);
  return read_stat(path.data(), stat);
}
bool is_running(const Stat& stat) noexcept {
  return stat.state != 'Z' && stat.state != 'X' && stat.state != 'x';
}

// Whether there is a process of that number that has not ended, without /proc. In doubt it is taken to live:
// what it holds stays its own.
bool process_exists(pid_t pid) noexcept {
  const int saved = errno;
  bool exists = false;
  if (const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); fd >= 0) {
    pollfd ended{.fd = fd, .events = POLLIN, .revents = 0};  // readable for a zombie, too
    exists = ::poll(&ended, 1, 0) <= 0;
    ::close(fd);
  } else {
    exists = errno != ESRCH && (::kill(pid, 0) == 0 || errno != ESRCH);
  }
  errno = saved;
  return exists;
}

bool process_lives(pid_t pid, std::uint64_t start) noexcept {
  Stat stat;
  if (read_process_stat(pid, stat) != Look::seen) return process_exists(pid);
  // Where main has ended by pthread_exit(), the process shows as a zombie while its other threads go on.
  return (is_running(stat) || (stat.state == 'Z' && stat.threads > 1)) && (start == 0 || stat.start == start);
}

// ---- This process.

struct This {
  std::mutex mutex;             // guards the rest, against threads of this process
  ProcessSlot* slot = nullptr;  // null: not entered yet
  std::uint64_t start = 0;
  Offset first_chunk = 0;
  Offset free_chunk = 0;  // a chunk that may have room
  std::uint32_t free_index = 0;
  std::string name;
};
This& self() noexcept;

// The child is a new participant; its next use enters it.
void become_child() noexcept {
  This& me = self();
  me.slot = nullptr;
  me.start = 0;
  me.first_chunk = me.free_chunk = 0;
  me.free_index = 0;
  me.name.clear();
  detail::this_thread = 0;
  me.mutex.unlock();
}

This& self() noexcept {
  static This* const instance = [] {
    ::pthread_atfork([] { self().mutex.lock(); }, [] { self().mutex.unlock(); }, become_child);
    return new This;  // never destroyed: globals of the program release blocks after main
  }();
  return *instance;
}

// Enters this process; nullptr if the table is full. Requires self().mutex.
ProcessSlot* enter_process(This& me) noexcept {
  if (me.slot != nullptr) return me.slot;
  ensure_heap();
  const pid_t pid = ::getpid();
  Stat stat;
  read_process_stat(pid, stat);
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (std::uint32_t i = 0; i < max_processes; ++i) {
      ProcessSlot& slot = processes()[(static_cast<std::uint32_t>(pid) + i) % max_processes];
      std::int32_t expected = 0;
      if (slot.pid.load(std::memory_order_relaxed) != 0 || !slot.pid.compare_exchange_strong(expected, pid))
        continue;
      slot.holdings.store(0, std::memory_order_relaxed);
      slot.named.store(0, std::memory_order_relaxed);
      write_name(slot.name, me.name.empty() ? fmt::format("process {}", pid) : me.name);
      slot.start.store(stat.start, std::memory_order_release);
      me.slot = &slot;
      me.start = stat.start;
      return &slot;
    }
    sweep();
  }
  return nullptr;
}

// Frees the thread's slot when the thread ends; its name stays readable until the slot is used again.
struct ThreadExit {
  ~ThreadExit() {
    const ThreadToken token = std::exchange(detail::this_thread, 0);
    if (token == 0) return;
    ThreadSlot& slot = slot_of(token, tables());
    if (is_current(token, slot)) slot.state.store(ended, std::memory_order_release);
  }
};
thread_local ThreadExit at_thread_exit;

// A free slot, the one that has been free for the longest if possible.
ThreadToken claim_thread_slot() noexcept {
  static std::atomic<std::uint32_t> turn{0};
  static std::atomic<bool> all_used{false};  // no slot is left that was never used
  // Processes start at different places, and each goes round: ended threads stay readable for long.
  const std::uint32_t first =
      static_cast<std::uint32_t>(::getpid()) * 61 + turn.fetch_add(1, std::memory_order_relaxed);
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (const std::uint32_t wanted : {never_used, ended}) {
      if (wanted == never_used && all_used.load(std::memory_order_relaxed)) continue;
      for (std::uint32_t i = 0; i < max_threads; ++i) {
        const std::uint32_t index = (first + i) & slot_mask;
        ThreadSlot& slot = threads()[index];
        std::uint32_t expected = wanted;
        if (slot.state.load(std::memory_order_relaxed) != wanted ||
            !slot.state.compare_exchange_strong(expected, used))
          continue;
        std::uint32_t generation = (slot.generation.load(std::memory_order_relaxed) + 1) & generation_mask;
        if (generation == 0) generation = 1;
        slot.pid.store(::getpid(), std::memory_order_relaxed);
        slot.tid.store(0, std::memory_order_relaxed);
        slot.waiting.sequence.store((slot.waiting.sequence.load(std::memory_order_relaxed) + 1) & ~1U,
                                    std::memory_order_relaxed);
        slot.generation.store(generation, std::memory_order_release);
        return (generation << slot_bits) | index;
      }
      all_used.store(true, std::memory_order_relaxed);
    }
    sweep();
  }
  std::fprintf(stderr, "manyhands: more than %u threads use locks at once; the program cannot go on\n",
               max_threads);
  std::abort();
}

ThreadToken enter_thread(pid_t tid, std::string_view name) noexcept {
  This& me = self();
  std::uint64_t start = 0;
  {
    const std::lock_guard lock(me.mutex);
    enter_process(me);
    start = me.start;
  }
  const ThreadToken token = claim_thread_slot();
  ThreadSlot& slot = slot_of(token, tables());
  slot.process_start.store(start, std::memory_order_relaxed);
  Stat stat;
  if (tid != 0) read_thread_stat(::getpid(), tid, stat);
  slot.start.store(stat.start, std::memory_order_relaxed);
  write_name(slot.name, name);
  slot.tid.store(tid, std::memory_order_release);
  return token;
}

bool thread_lives(ThreadToken token, const Tables& where) noexcept {
  const ThreadSlot& slot = slot_of(token, where);
  if (!is_current(token, slot) || slot.state.load(std::memory_order_acquire) != used) return false;
  const pid_t pid = slot.pid.load(std::memory_order_relaxed);
  const pid_t tid = slot.tid.load(std::memory_order_acquire);
  if (tid == 0 || pid == tid) return process_lives(pid, slot.process_start.load(std::memory_order_relaxed));
  if (!process_lives(pid, slot.process_start.load(std::memory_order_relaxed))) return false;
  Stat stat;
  if (read_thread_stat(pid, tid, stat) != Look::seen)
    return ::syscall(SYS_tgkill, pid, tid, 0) == 0 || errno != ESRCH;
  const std::uint64_t start = slot.start.load(std::memory_order_relaxed);
  return is_running(stat) && (start == 0 || stat.start == start);
}

}  // namespace

ThreadToken detail::register_thread() noexcept {
  ensure_heap();
  static_cast<void>(&at_thread_exit);
  const auto tid = static_cast<pid_t>(::syscall(SYS_gettid));
  const std::string process = this_process_name();
  this_thread = enter_thread(tid, tid == ::getpid() ? process : fmt::format("{}/{}", process, tid));
  return this_thread;
}

Waiting& waiting_of(ThreadToken token) noexcept { return slot_of(token, tables()).waiting; }
Waiting& waiting_of(ThreadToken token, const Tables& where) noexcept { return slot_of(token, where).waiting; }

ThreadInfo describe_thread(ThreadToken token) { return describe_thread(token, tables()); }

ThreadInfo describe_thread(ThreadToken token, const Tables& where) {
  const ThreadSlot& slot = slot_of(token, where);
  if (token == 0 || !is_current(token, slot)) return {.name = "a thread that has ended"};
  return {.name = read_name(slot.name),
          .pid = slot.pid.load(std::memory_order_relaxed),
          .tid = slot.tid.load(std::memory_order_relaxed),
          .alive = thread_lives(token, where)};
}

bool is_alive(ThreadToken token) noexcept { return token != 0 && thread_lives(token, tables()); }

bool has_left(ThreadToken token) noexcept {
  const ThreadSlot& slot = slot_of(token, tables());
  return !is_current(token, slot) || slot.state.load(std::memory_order_acquire) != used;
}

bool is_asleep(ThreadToken token) noexcept {
  const ThreadSlot& slot = slot_of(token, tables());
  Stat stat;
  return is_current(token, slot) &&
         read_thread_stat(slot.pid.load(std::memory_order_relaxed), slot.tid.load(std::memory_order_acquire),
                          stat) == Look::seen &&
         stat.state == 'S';
}

std::vector<ThreadToken> entered_threads() {
  std::vector<ThreadToken> found;
  for (std::uint32_t index = 0; index < max_threads; ++index) {
    const ThreadSlot& slot = threads()[index];
    if (slot.state.load(std::memory_order_acquire) == used)
      found.push_back((slot.generation.load(std::memory_order_acquire) << slot_bits) | index);
  }
  return found;
}

std::vector<ThreadToken> live_threads() { return live_threads(tables()); }

std::vector<ThreadToken> live_threads(const Tables& where) {
  std::vector<ThreadToken> found;
  for (std::uint32_t index = 0; index < max_threads; ++index) {
    const ThreadSlot& slot = threads_in(where)[index];
    if (slot.state.load(std::memory_order_acquire) != used) continue;
    const ThreadToken token = (slot.generation.load(std::memory_order_acquire) << slot_bits) | index;
    if (thread_lives(token, where)) found.push_back(token);
  }
  return found;
}

void name_this_process(std::string_view name) noexcept {
  This& me = self();
  const std::lock_guard lock(me.mutex);
  me.name = name;
  if (me.slot != nullptr) write_name(me.slot->name, name);
}

std::string this_process_name() {
  This& me = self();
  const std::lock_guard lock(me.mutex);
  return me.name.empty() ? fmt::format("process {}", ::getpid()) : me.name;
}

// ---- Fibers.

ThreadToken enter_fiber(std::string_view name) noexcept {
  ensure_heap();
  return enter_thread(0, name);
}

void leave_fiber(ThreadToken token) noexcept {
  slot_of(token, tables()).state.store(ended, std::memory_order_release);
}

ThreadToken exchange_this_thread(ThreadToken token) noexcept {
  return std::exchange(detail::this_thread, token);
}

// ---- Holdings.

HoldEntry hold(Offset payload) {
  This& me = self();
  const std::lock_guard lock(me.mutex);
  if (enter_process(me) == nullptr) return {};  // not listed: lost only if this process is killed
  // From where an entry was freed last; then a new chunk.
  for (Offset chunk = me.free_chunk; chunk != 0;
       chunk = at<HoldChunk>(chunk).next.load(std::memory_order_relaxed)) {
    auto& held = at<HoldChunk>(chunk).held;
    for (std::uint32_t i = chunk == me.free_chunk ? me.free_index : 0; i < HoldChunk::entries; ++i) {
      if (held[i].load(std::memory_order_relaxed) != 0) continue;
      held[i].store(payload, std::memory_order_release);
      me.free_chunk = chunk;
      me.free_index = i + 1;
      return {chunk, i};
    }
  }
  const Offset chunk = allocate(sizeof(HoldChunk), BlockKind::holdings);
  auto& made = at<HoldChunk>(chunk);
  made.held[0].store(payload, std::memory_order_relaxed);
  made.next.store(me.first_chunk, std::memory_order_relaxed);
  me.slot->holdings.store(chunk, std::memory_order_release);  // the list is whole at any time
  me.first_chunk = me.free_chunk = chunk;
  me.free_index = 1;
  return {chunk, 0};
}

void unhold(Offset payload, HoldEntry entry) noexcept {
  {
    This& me = self();
    const std::lock_guard lock(me.mutex);
    if (entry.chunk != 0) {
      at<HoldChunk>(entry.chunk).held[entry.index].store(0, std::memory_order_release);
      me.free_chunk = entry.chunk;
      me.free_index = entry.index;
    }
  }
  release(payload);
}

std::vector<Offset> held_blocks(BlockKind kind) {
  return held_blocks(kind, {.mapping = mapping(), .tables = tables()});
}

std::vector<Offset> held_blocks(BlockKind kind, const HeapView& heap) {
  std::set<Offset> found;
  std::set<Offset> seen;  // chunks: a list that changes under a reader, or is made so, could lead in a circle
  for (std::uint32_t i = 0; i < max_processes; ++i) {
    const ProcessSlot& slot = processes_in(heap.tables)[i];
    if (slot.pid.load(std::memory_order_acquire) == 0) continue;
    for (Offset chunk = slot.holdings.load(std::memory_order_acquire);
         chunk != 0 && seen.insert(chunk).second;) {
      const BlockHeader* header = header_in(heap, chunk, sizeof(HoldChunk));
      if (header == nullptr || header->kind != BlockKind::holdings || header->size < sizeof(HoldChunk)) break;
      // A copy: what it was read from may be gone when the blocks that it names are looked at.
      std::vector<Offset> entries;
      const auto& part = *reinterpret_cast<const HoldChunk*>(heap.mapping.data() + chunk);
      for (const auto& entry : part.held) {
        if (const Offset payload = entry.load(std::memory_order_acquire); payload != 0)
          entries.push_back(payload);
      }
      chunk = part.next.load(std::memory_order_relaxed);
      for (const Offset payload : entries) {
        const BlockHeader* block = header_in(heap, payload);
        if (block != nullptr && block->kind == kind) found.insert(payload);
      }
    }
  }
  return {found.begin(), found.end()};
}

std::vector<pid_t> holders_of(Offset payload) {
  std::vector<pid_t> found;
  for (std::uint32_t i = 0; i < max_processes; ++i) {
    const ProcessSlot& slot = processes()[i];
    const std::int32_t pid = slot.pid.load(std::memory_order_acquire);
    if (pid == 0) continue;
    bool holds = false;
    Offset chunk = slot.holdings.load(std::memory_order_acquire);
    // As in held_blocks(): the list may change under us.
    for (std::uint32_t steps = 0; chunk != 0 && !holds && steps < (1U << 20); ++steps) {
      const BlockHeader* header = header_in({.mapping = mapping(), .tables = tables()}, chunk);
      if (header == nullptr || header->kind != BlockKind::holdings) break;
      const auto& part = at<HoldChunk>(chunk);
      holds = std::any_of(part.held.begin(), part.held.end(), [payload](const auto& entry) {
        return entry.load(std::memory_order_acquire) == payload;
      });
      chunk = part.next.load(std::memory_order_relaxed);
    }
    if (holds && process_lives(pid, slot.start.load(std::memory_order_acquire))) found.push_back(pid);
  }
  return found;
}

void count_named(int change) noexcept {
  This& me = self();
  const std::lock_guard lock(me.mutex);
  if (me.slot != nullptr) me.slot->named.fetch_add(change);
}

bool names_nothing(pid_t pid) noexcept {
  for (std::uint32_t i = 0; i < max_processes; ++i) {
    const ProcessSlot& slot = processes()[i];
    if (slot.pid.load(std::memory_order_acquire) == pid) return slot.named.load() == 0;
  }
  return false;
}

std::size_t threads_of(pid_t pid) noexcept {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/task", pid);
  DIR* const threads = ::opendir(path.data());
  if (threads == nullptr) return 0;
  std::size_t count = 0;
  while (const dirent* entry = ::readdir(threads)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(threads);
  return count;
}

namespace {

void sweep_slot(ProcessSlot& slot, std::int32_t pid) noexcept {
  // One sweeper per slot; one that died itself is replaced.
  std::uint32_t sweeper = slot.sweeper.load();
  if (sweeper != 0 && process_lives(static_cast<pid_t>(sweeper), 0)) return;
  if (!slot.sweeper.compare_exchange_strong(sweeper, static_cast<std::uint32_t>(::getpid()))) return;
  if (slot.pid.load() != pid) {  // swept meanwhile
    slot.sweeper.store(0);
    return;
  }
  for (std::uint32_t index = 0; index < max_threads; ++index) {
    ThreadSlot& thread = threads()[index];
    if (thread.state.load(std::memory_order_relaxed) == used &&
        thread.pid.load(std::memory_order_relaxed) == pid &&
        thread.process_start.load(std::memory_order_relaxed) == slot.start.load(std::memory_order_relaxed)) {
      // What it did comes before what others see of its end.
      if (watching_races())
        race::joined((thread.generation.load(std::memory_order_relaxed) << slot_bits) | index);
      thread.state.store(ended, std::memory_order_release);
    }
  }
  Offset chunk = slot.holdings.load(std::memory_order_acquire);
  while (chunk != 0) {
    auto& part = at<HoldChunk>(chunk);
    for (auto& entry : part.held) {
      // Taken before it is released: if this sweeper dies in between, the block is lost, never released
      // twice.
      if (const Offset payload = entry.exchange(0); payload != 0) release(payload);
    }
    const Offset next = part.next.load(std::memory_order_relaxed);
    slot.holdings.store(next, std::memory_order_release);
    release(chunk);
    chunk = next;
  }
  slot.start.store(0, std::memory_order_relaxed);
  slot.pid.store(0, std::memory_order_release);
  slot.sweeper.store(0);
}

}  // namespace

void sweep(pid_t only) noexcept {
  if (!have_heap()) return;
  for (std::uint32_t i = 0; i < max_processes; ++i) {
    ProcessSlot& slot = processes()[i];
    const std::int32_t pid = slot.pid.load(std::memory_order_acquire);
    if (pid == 0 || (only != 0 && pid != only) ||
        process_lives(pid, slot.start.load(std::memory_order_acquire)))
      continue;
    sweep_slot(slot, pid);
  }
}

namespace {
std::atomic<void (*)()> other_sweep{nullptr};  // of this process; set once
}

void also_sweep(void (*look)()) noexcept { other_sweep.store(look); }

void sweep_now_and_then() noexcept {
  constexpr std::int64_t every_ns = 200'000'000;
  const auto is_time = [](std::atomic<std::int64_t>& last_ns) {
    std::int64_t last = last_ns.load(std::memory_order_relaxed);
    const std::int64_t now = now_ns();
    return now - last >= every_ns && last_ns.compare_exchange_strong(last, now, std::memory_order_relaxed);
  };
  static std::atomic<std::int64_t> last_look_ns{0};  // of this process
  if (const auto look = other_sweep.load(); look != nullptr && is_time(last_look_ns)) look();
  if (is_time(last_sweep_ns())) sweep();  // of all processes, one
}

ProcessStart this_process_start() noexcept {
  {
    This& me = self();
    const std::lock_guard lock(me.mutex);
    if (me.slot != nullptr && me.start != 0) return {.pid = ::getpid(), .start = me.start};
  }
  Stat stat;
  read_process_stat(::getpid(), stat);
  return {.pid = ::getpid(), .start = stat.start};
}

bool process_lives(const ProcessStart& process) noexcept {
  return process_lives(static_cast<pid_t>(process.pid), process.start);
}

std::size_t live_processes() noexcept {
  if (!have_heap()) return 0;
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < max_processes; ++i) {
    const ProcessSlot& slot = processes()[i];
    const std::int32_t pid = slot.pid.load(std::memory_order_acquire);
    if (pid != 0 && process_lives(pid, slot.start.load(std::memory_order_acquire))) ++count;
  }
  return count;
}

}  // namespace manyhands::shm
