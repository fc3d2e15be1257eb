#include "manyhands/process/inherited.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/base/mutex.hpp"

namespace manyhands::process {
namespace {

struct Mapping {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t device = 0;
  std::uint64_t inode = 0;  // 0: no file
  bool is_shared = false;
};

// Of this process: those that are the same in a fork for ever.
std::vector<Mapping> lasting_mappings() {
  std::vector<Mapping> mappings;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    Mapping mapping;
    char access[5] = {};
    unsigned major = 0;
    unsigned minor = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %x:%x %" SCNu64, &mapping.begin,
                    &mapping.end, access, &mapping.offset, &major, &minor, &mapping.inode) != 7)
      continue;
    mapping.device = (std::uint64_t{major} << 32) | minor;
    mapping.is_shared = access[3] == 's';
    const bool is_constant = access[1] == '-' && mapping.inode != 0;
    if (mapping.is_shared || is_constant) mappings.push_back(mapping);
  }
  return mappings;
}

struct Noted {
  Mutex mutex;
  std::vector<Mapping> mappings MH_GUARDED_BY(mutex);
};
Noted& noted() {
  static Noted instance;
  return instance;
}

}  // namespace

void note_mappings() {
  auto now = lasting_mappings();
  Noted& all = noted();
  const MutexLock lock(all.mutex);
  all.mappings = std::move(now);
}

bool is_inherited(const void* address) {
  const auto place = reinterpret_cast<std::uintptr_t>(address);
  const auto has = [place](const Mapping& mapping) { return place >= mapping.begin && place < mapping.end; };
  Mapping then;
  {
    Noted& known = noted();
    const MutexLock lock(known.mutex);
    const auto found = std::find_if(known.mappings.begin(), known.mappings.end(), has);
    if (found == known.mappings.end()) return false;
    then = *found;
  }
  const auto all = lasting_mappings();
  const auto now = std::find_if(all.begin(), all.end(), has);
  return now != all.end() && now->device == then.device && now->inode == then.inode &&
         now->is_shared == then.is_shared &&
         now->offset + (place - now->begin) == then.offset + (place - then.begin);
}

}  // namespace manyhands::process
