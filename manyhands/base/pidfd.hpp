#pragma once
// Handles of processes: a pidfd names a process and no other one, whatever becomes of its number.
//
// Any thread. Async-signal-safe.

#include <sys/types.h>

#include <optional>

#include "manyhands/base/unique_fd.hpp"

namespace manyhands {

// None, and errno, if there is no such process, or no descriptor left. Readable once the process has ended,
// whether it was waited for or not.
UniqueFd open_pidfd(pid_t pid) noexcept;

// Whether the process got the signal: false once it has ended.
bool send_signal(const UniqueFd& pidfd, int number) noexcept;

// How a child ended whose end was taken by somebody else's waitpid(-1), or is not kept because SIGCHLD is
// ignored: as waitpid() would have told it. `pidfd` was opened before that. nullopt if the system does not
// know: Linux does since 6.15. Waits for some milliseconds at most, as long as the process is being taken
// away.
std::optional<int> status_of_reaped(const UniqueFd& pidfd) noexcept;

}  // namespace manyhands
