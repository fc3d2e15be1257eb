#include "manyhands/cli/locks.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <system_error>

#include "manyhands/base/error.hpp"
#include "manyhands/base/unique_fd.hpp"
#include "manyhands/shm/heap.hpp"

namespace manyhands::cli {
namespace {

namespace fs = std::filesystem;

// Another program's heap, mapped read-only.
class ForeignHeap {
 public:
  explicit ForeignHeap(const fs::path& descriptor) {
    const UniqueFd memory(::open(descriptor.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!memory || ::fstat(memory.get(), &info) != 0)
      throw_errno(fmt::format("open the shared memory {}", descriptor.string()));
    const auto size = static_cast<std::size_t>(info.st_size);
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, memory.get(), 0);
    if (address == MAP_FAILED) throw_errno(fmt::format("map the shared memory {}", descriptor.string()));
    mapping_ = {static_cast<std::byte*>(address), size};
  }
  ~ForeignHeap() { ::munmap(mapping_.data(), mapping_.size()); }
  ForeignHeap(const ForeignHeap&) = delete;
  ForeignHeap& operator=(const ForeignHeap&) = delete;

  shm::HeapView view() const { return {mapping_, shm::tables_in(mapping_)}; }

 private:
  std::span<std::byte> mapping_;
};

// The descriptor of the heap among those of process `pid`.
std::optional<fs::path> find_heap(pid_t pid) {
  const fs::path folder = fmt::format("/proc/{}/fd", pid);
  std::error_code error;
  const fs::directory_iterator descriptors(folder, error);
  if (error == std::errc::no_such_file_or_directory) throw Error(fmt::format("there is no process {}", pid));
  if (error == std::errc::permission_denied) {
    throw Error(
        fmt::format("process {} may not be looked at: it belongs to another user; try it as that user or "
                    "as root",
                    pid));
  }
  if (error) throw SystemError(fmt::format("read {}", folder.string()), error.value());
  for (const auto& entry : descriptors) {
    const fs::path target = fs::read_symlink(entry.path(), error);  // fails if it was closed meanwhile
    if (!error && target.string().starts_with("/memfd:manyhands-heap")) return entry.path();
  }
  return std::nullopt;
}

nlohmann::json json_of(const LockReport::Thread& thread) {
  return {{"name", thread.name}, {"pid", thread.pid}, {"tid", thread.tid}, {"alive", thread.alive}};
}

}  // namespace

LockReport locks_of(pid_t pid) {
  const auto descriptor = find_heap(pid);
  if (!descriptor) {
    throw Error(
        fmt::format("process {} has no manyhands shared memory: it is no manyhands program, or has not used "
                    "a Lock, Array, Queue or Process yet",
                    pid));
  }
  return shm::lock_report(ForeignHeap(*descriptor).view());
}

std::string to_json(const LockReport& report) {
  using nlohmann::json;
  json locks = json::array();
  for (const auto& lock : report.locks) {
    json entry{{"kind", lock.kind}, {"name", lock.name}, {"owner", nullptr}};
    if (lock.owner) {
      entry["owner"] = json_of(*lock.owner);
      entry["held_seconds"] = lock.held_s;
      entry["where"] = lock.site;
    }
    locks.push_back(std::move(entry));
  }
  json waits = json::array();
  for (const auto& wait : report.waits) {
    json entry{{"thread", json_of(wait.thread)},  {"for", wait.what},        {"where", wait.site},
               {"waited_seconds", wait.waited_s}, {"bounded", wait.bounded}, {"holder", nullptr}};
    if (wait.holder) {
      entry["holder"] = json_of(*wait.holder);
      entry["held_seconds"] = wait.held_s;
      entry["held_where"] = wait.held_site;
    }
    waits.push_back(std::move(entry));
  }
  // Names come from another program: whatever is no UTF-8 in them is replaced.
  return json{{"locks", locks}, {"waits", waits}, {"deadlocks", report.cycles}}.dump(
      2, ' ', false, json::error_handler_t::replace);
}

}  // namespace manyhands::cli
