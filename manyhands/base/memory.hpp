#pragma once
// require_memory(): the look before a large allocation, for all that would else end by the kernel's OOM
// killer.

#include <cstddef>

namespace manyhands {

// Throws ResourceExhausted, with the numbers, if `size_bytes` more bytes than now would not fit into the
// machine's available memory or this process's cgroup. `what` names the purpose in the message. Reads /proc
// and /sys.
void require_memory(std::size_t size_bytes, const char* what);

}  // namespace manyhands
