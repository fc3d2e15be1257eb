#include "manyhands/process/descendants.hpp"

#include <dirent.h>
#include <fmt/core.h>
#include <signal.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

namespace manyhands::process {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// The entries of a directory of /proc that are numbers; nullopt if it cannot be read.
std::optional<std::vector<pid_t>> numbers_in(const std::string& path) {
  const Directory directory(::opendir(path.c_str()));
  if (directory == nullptr) return std::nullopt;
  std::vector<pid_t> found;
  while (const dirent* const entry = ::readdir(directory.get())) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0)
      found.push_back(static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10)));
  }
  return found;
}

pid_t parent_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');  // the name may hold anything: "pid (name) state ppid ..."
  if (name_end == std::string::npos || name_end + 4 > line.size()) return 0;
  return static_cast<pid_t>(std::strtol(line.c_str() + name_end + 4, nullptr, 10));
}

}  // namespace

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  const auto threads = numbers_in(fmt::format("/proc/{}/task", parent));
  if (!threads) return found;
  for (const pid_t thread : *threads) {
    std::ifstream file(fmt::format("/proc/{}/task/{}/children", parent, thread));
    if (!file) {  // a kernel without that file: look at all processes
      found.clear();
      for (const pid_t pid : numbers_in("/proc").value_or(std::vector<pid_t>{})) {
        if (parent_of(pid) == parent) found.push_back(pid);
      }
      return found;
    }
    for (pid_t child = 0; file >> child;) found.push_back(child);
  }
  return found;
}

void kill_descendants(pid_t ancestor) {
  for (const pid_t child : children_of(ancestor)) {
    ::kill(child, SIGSTOP);  // so that it starts no more while its own children are looked up
    kill_descendants(child);
    ::kill(child, SIGKILL);
  }
}

}  // namespace manyhands::process
