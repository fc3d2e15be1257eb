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

// One file system of cgroups: where it lies, and the names of its files.
struct Hierarchy {
  std::filesystem::path mount;  // below the root
  const char* limit;
  const char* used;
};
const Hierarchy version_2{"sys/fs/cgroup", "memory.max", "memory.current"};
const Hierarchy unified{"sys/fs/cgroup/unified", "memory.max", "memory.current"};  // beside version 1
const Hierarchy version_1{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"};

void look_at(const std::filesystem::path& folder, const Hierarchy& hierarchy, CgroupMemory& tightest) {
  const auto limit = number_in(folder / hierarchy.limit);  // "max" is no number
  const auto used = number_in(folder / hierarchy.used);
  constexpr std::uint64_t none = std::uint64_t{1} << 62;  // version 1 writes such a number
  if (!limit || !used || *limit >= none) return;
  const std::uint64_t left = *limit > *used ? *limit - *used : 0;
  if (left < tightest.left) tightest = {left, *limit, *used, folder.string()};
}

// All folders from `group` up to the mount, which is included: in a container it is the container's own. One
// that is not there, as a path of the machine seen from a container, is passed over.
void look_above(const std::filesystem::path& root, const Hierarchy& hierarchy,
                const std::filesystem::path& group, CgroupMemory& tightest) {
  const std::filesystem::path mount = root / hierarchy.mount;
  for (std::filesystem::path path = group.relative_path();; path = path.parent_path()) {
    look_at(path.empty() ? mount : mount / path, hierarchy, tightest);
    if (path.empty()) return;
  }
}

bool names_memory(const std::string& controllers) {
  return ("," + controllers + ",").find(",memory,") != std::string::npos;
}

}  // namespace

CgroupMemory cgroup_memory(const std::string& root) {
  const std::filesystem::path top(root);
  CgroupMemory tightest;
  std::ifstream self(top / "proc/self/cgroup");
  std::string line;
  bool any = false;
  while (std::getline(self, line)) {  // "NUMBER:CONTROLLERS:PATH"
    const auto first = line.find(':');
    const auto second = first != std::string::npos ? line.find(':', first + 1) : first;
    if (second == std::string::npos) continue;
    any = true;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::filesystem::path group(line.substr(second + 1));
    if (controllers.empty()) {
      look_above(top, version_2, group, tightest);
      look_above(top, unified, group, tightest);
    } else if (names_memory(controllers)) {
      look_above(top, version_1, group, tightest);
    }
  }
  if (!any) {  // no /proc
    look_above(top, version_2, "/", tightest);
    look_above(top, version_1, "/", tightest);
  }
  return tightest;
}

void require_memory(std::size_t size_bytes, const char* what) {
  const auto machine = available_memory();
  const CgroupMemory group = cgroup_memory();
  if (size_bytes <= std::min(machine, group.left)) return;
  if (group.left < machine) {
    throw ResourceExhausted(fmt::format(
        "{} needs {} MiB of memory, but only {} MiB are left: the cgroup {} has a limit of {} MiB, of "
        "which {} are used; send less at a time, free memory, or give the container more",
        what, size_bytes >> 20, group.left >> 20, group.path, group.limit >> 20, group.used >> 20));
  }
  throw ResourceExhausted(fmt::format(
      "{} needs {} MiB of memory, but only {} MiB are left (MemAvailable of this machine); send less "
      "at a time or free memory",
      what, size_bytes >> 20, machine >> 20));
}

}  // namespace manyhands
