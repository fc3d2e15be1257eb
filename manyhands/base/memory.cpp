#include "manyhands/base/memory.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands {
namespace {

std::optional<std::uint64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

std::uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) * 1024;
  }
  return UINT64_MAX;
}

// What the tightest cgroup above this process still allows; UINT64_MAX without a limit.
std::uint64_t cgroup_memory_left() {
  std::ifstream self("/proc/self/cgroup");
  std::string line;
  std::uint64_t least = UINT64_MAX;
  while (std::getline(self, line)) {
    if (!line.starts_with("0::")) continue;
    for (std::filesystem::path path = line.substr(3); path.has_relative_path(); path = path.parent_path()) {
      const auto folder = std::filesystem::path("/sys/fs/cgroup") / path.relative_path();
      const auto limit = number_in(folder / "memory.max");
      const auto used = number_in(folder / "memory.current");
      if (limit && used) least = std::min(least, *limit > *used ? *limit - *used : 0);
    }
  }
  return least;
}

}  // namespace

void require_memory(std::size_t size_bytes, const char* what) {
  const auto machine = available_memory();
  const auto group = cgroup_memory_left();
  const auto left = std::min(machine, group);
  if (size_bytes <= left) return;
  throw ResourceExhausted(fmt::format(
      "{} needs {} MiB of memory, but only {} MiB are left ({}); send less at a time or free memory", what,
      size_bytes >> 20, left >> 20,
      group < machine ? "limit of this process's cgroup" : "MemAvailable of this machine"));
}

}  // namespace manyhands
