#pragma once
// The zygote: a small process, forked from the program while that is young and has one thread, which forks
// the workers of all pools.
//
// Forking a worker from it takes a fraction of a millisecond however large the program has grown, copies no
// locks that other threads hold, and gives workers the same code at the same addresses. It never runs user
// code. It reaps the workers and tells each pool of its own; it kills a pool's workers when the pool's
// channel closes (the pool's process died) and everything when the program dies. Workers have it as their
// parent and die with it. A worker that makes a pool of its own asks the same zygote.
//
// Between it and the program stands its keeper, which does nothing but wait for it: a child of the program
// that the program's own wait() never meets (it has no signal at its end), and through which the times of all
// workers reach the program's.
//
// Talk: one "door" takes requests {open pool} from the program and all workers; each pool then has a channel.

#include <memory>
#include <string>

#include "manyhands/net/fd_channel.hpp"
#include "manyhands/process/spawner.hpp"
#include "manyhands/process/surroundings.hpp"
#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"
#include "manyhands/shm/segment.hpp"

namespace manyhands::process {

enum class ZygoteSpawn : std::uint32_t {
  fork,  // the worker is a copy of the zygote
  exec,  // the worker starts the program anew (fresh_start.hpp)
};

// Starts this process's zygote if there is none yet (a worker has its parent's), or if it is gone; a process
// that the user forked gets one of its own. That of a guest (fresh_start.hpp) is no fork, but starts afresh.
// Blocks until it serves. Throws Error if other threads run and would be forked, SystemError if it cannot be
// started.
void ensure_zygote();
bool have_zygote() noexcept;

// A worker uses the door it was given.
void adopt_zygote_door(UniqueFd door) noexcept;
// Which thread the zygote is, in the zygote and what it forks; 0 is unknown, as in what was started by exec.
void set_zygote_thread(shm::ThreadToken zygote) noexcept;

// Workers for one pool: `workers` of them are started at once, with this process's surroundings. Throws
// SystemError, or Error if the zygote is gone.
std::unique_ptr<Spawner> open_zygote_pool(const shm::Segment& board, int supervisor_fd, std::uint32_t workers,
                                          ZygoteSpawn how, const Surroundings& surroundings);

// Starts the mh::Process whose ProcessRecord lies at `record`; its state says how that went. Throws Error if
// the zygote is gone.
void ask_zygote_for(shm::Offset record, ZygoteSpawn how, const Surroundings& surroundings);
// False once it is known that the zygote is gone, and with it all that it started. Reads /proc.
bool zygote_lives() noexcept;
// "the zygote, from which worker processes are started, was killed by SIGKILL (Killed)", or how else it
// ended.
std::string end_of_zygote();
// The program has processes that outlive it: its end does not wait for the zygote's.
void keep_zygote() noexcept;

// The names of the hidden arguments that make a program a worker,
// "--manyhands-worker=BOARD,SUPERVISOR,DOOR,NUMBER", an mh::Process, "--manyhands-process=RECORD,DOOR", or a
// guest's zygote, "--manyhands-zygote=DOOR,DOOR_FOR_WORKERS,PROGRAM,PID,MASK,IGNORES_SIGCHLD".
inline constexpr const char* worker_argument = "--manyhands-worker=";
inline constexpr const char* process_argument = "--manyhands-process=";
inline constexpr const char* zygote_argument = "--manyhands-zygote=";
// Whether `door` is a descriptor as a zygote hands it to what it starts by exec: one end of a socket pair
// whose maker was this user or root. What a stranger can redirect to a program is not.
bool is_zygote_door(int door) noexcept;

}  // namespace manyhands::process
