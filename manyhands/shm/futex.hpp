#pragma once
// Futexes on 32-bit words in shared memory: sleeping until another process says so.
// Source: futex(2); U. Drepper, "Futexes Are Tricky" (2011).

#include <atomic>
#include <cstdint>

#include "manyhands/base/clock.hpp"

namespace manyhands::shm {

using FutexWord = std::atomic<std::uint32_t>;
static_assert(FutexWord::is_always_lock_free && sizeof(FutexWord) == 4,
              "the kernel looks at the same four bytes");

enum class WakeReason { woken, timed_out, interrupted };  // `woken` also if the word differed from `expected`

// Blocks while `word` holds `expected`, until a futex_wake on it, a signal handler ran, or `deadline`. Any
// process.
WakeReason futex_wait(FutexWord& word, std::uint32_t expected, const Deadline& deadline = {}) noexcept;

// Wakes up to `count` sleepers on `word`, in whichever process. Returns how many. Any process; does not
// block.
int futex_wake(FutexWord& word, int count = 1) noexcept;
int futex_wake_all(FutexWord& word) noexcept;

// Tells the core that this thread spins.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace manyhands::shm
