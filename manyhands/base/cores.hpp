#pragma once
// How many cores this process may use.
// Source: sched_getaffinity(2) and the cgroup v2 file cpu.max (a quota of "200000 100000" is two cores).

#include <string_view>

namespace manyhands {

// The number of cores this process can keep busy: the smaller of its affinity mask and its cgroup's CPU quota
// (rounded up), at least 1. Reads a few small files; does not block otherwise.
int cpu_count();

namespace detail {
// Cores granted by the text of a cpu.max file, rounded up; 0 if it sets no limit or is malformed.
int cores_of_quota(std::string_view cpu_max) noexcept;
}  // namespace detail

}  // namespace manyhands
