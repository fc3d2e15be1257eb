#pragma once
// Surroundings: what a process has from its system besides memory, so that workers have it as it is when they
// are asked for, and not as it was when the zygote was forked: directory, environment, umask, resource
// limits, niceness, locale, and who it is (credentials).
//
// The process that asks captures; the child applies, before any user code. Credentials are not believed: the
// zygote, which may have more rights than a program that gave them up, takes them from the kernel.
// Not handed on: capabilities, seccomp filters, namespaces, cgroups, CPU affinity, signal handlers.

#include <sys/types.h>

#include <optional>
#include <vector>

#include "manyhands/base/unique_fd.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/heap.hpp"

namespace manyhands::process {

// User and group ids: real, effective, saved; supplementary groups in ascending order.
struct Credentials {
  uid_t real_user = 0, user = 0, saved_user = 0;
  gid_t real_group = 0, group = 0, saved_group = 0;
  std::vector<gid_t> groups;

  friend bool operator==(const Credentials&, const Credentials&) = default;
};
Credentials own_credentials();
// Of another process, from /proc; nullopt if that cannot be read.
std::optional<Credentials> credentials_of(pid_t pid);
// Makes them this process's. Throws SystemError; then the process must not go on.
void adopt_credentials(const Credentials& credentials);

// What a request for processes carries: a block in the program's shared memory, and a descriptor of the
// directory (empty if it cannot be opened; then the zygote's is kept). One block for all requests between two
// changes.
struct Surroundings {
  shm::BlockPtr block;
  UniqueFd directory;
};
Surroundings capture_surroundings();

// Make what was captured this process's own; the environment stays as it is where it is the same. One thread.
// What the system refuses (a limit above the hard one) stays as it is.
void apply_surroundings(shm::Offset block, int directory) noexcept;
// The locale alone, which a process that was started by exec does not inherit.
void apply_locale(shm::Offset block) noexcept;

}  // namespace manyhands::process
