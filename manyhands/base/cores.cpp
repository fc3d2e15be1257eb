#include "manyhands/base/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace manyhands {
namespace {

int cores_of_affinity() {
  for (std::size_t cores = 1024; cores <= 1U << 20;
       cores *= 2) {  // the kernel's mask may be longer than cpu_set_t
    std::vector<cpu_set_t> mask((cores + CPU_SETSIZE - 1) / CPU_SETSIZE);
    const std::size_t size = mask.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, size, mask.data()) == 0) return CPU_COUNT_S(size, mask.data());
  }
  return 1;
}

// The smallest quota on the way from this process's cgroup to the root; 0 if there is none.
int cores_of_cgroup() {
  std::ifstream self("/proc/self/cgroup");
  std::string line;
  int least = 0;
  while (std::getline(self, line)) {
    if (!line.starts_with("0::")) continue;  // cgroup v2
    const std::filesystem::path root = "/sys/fs/cgroup";
    for (std::filesystem::path path = line.substr(3);; path = path.parent_path()) {
      std::ifstream file(root / path.relative_path() / "cpu.max");
      std::string text;
      if (std::getline(file, text)) {
        const int cores = detail::cores_of_quota(text);
        if (cores > 0) least = least == 0 ? cores : std::min(least, cores);
      }
      if (!path.has_relative_path()) break;
    }
  }
  return least;
}

}  // namespace

int detail::cores_of_quota(std::string_view cpu_max) noexcept {
  const auto space = cpu_max.find(' ');
  if (space == std::string_view::npos) return 0;
  long quota = 0;
  long period = 0;
  // NOLINTBEGIN(bugprone-suspicious-stringview-data-usage): from_chars is told where to end
  const char* const end = cpu_max.data() + cpu_max.size();
  const auto first = std::from_chars(cpu_max.data(), cpu_max.data() + space, quota);
  const auto second = std::from_chars(cpu_max.data() + space + 1, end, period);
  // NOLINTEND(bugprone-suspicious-stringview-data-usage)
  if (first.ec != std::errc{} || second.ec != std::errc{} || quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}

int cpu_count() {
  const int affinity = std::max(1, cores_of_affinity());
  const int quota = cores_of_cgroup();
  return quota > 0 ? std::min(affinity, quota) : affinity;
}

}  // namespace manyhands
