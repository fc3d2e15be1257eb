#pragma once
// require_memory(): the look before a large allocation, for all that would else end by the kernel's OOM
// killer.

#include <cstddef>
#include <cstdint>
#include <string>

namespace manyhands {

// Throws ResourceExhausted, with the numbers, if `size_bytes` more bytes than now would not fit into the
// machine's available memory or this process's cgroups, of version 1 and 2, also those whose limit lies at
// the root, as in a container. `what` names the purpose in the message. Reads /proc and /sys.
void require_memory(std::size_t size_bytes, const char* what);

// What a cgroup leaves.
struct CgroupMemory {
  std::uint64_t left = UINT64_MAX;  // bytes; UINT64_MAX: there is no limit
  std::uint64_t limit = 0;
  std::uint64_t used = 0;
  std::string path;  // the folder that has the limit
};
// The tightest of this process. The system's files are below `root`, so that tests can make others.
CgroupMemory cgroup_memory(const std::string& root = "/");

}  // namespace manyhands
