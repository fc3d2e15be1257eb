#include "manyhands/cli/locks.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
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

// A copy of another program's heap, of what is looked at. That program may be anybody's and do anything
// meanwhile: so nothing of it is mapped here, where a shortened file would kill us, and the work is bounded.
class ForeignHeap final : public shm::HeapSource {
 public:
  ForeignHeap(const fs::path& descriptor, pid_t pid) : pid_(pid), file_(open_memory(descriptor)) {
    struct stat info{};
    if (::fstat(file_.get(), &info) != 0) throw_errno(fmt::format("look at {}", descriptor.string()));
    const auto size = static_cast<std::size_t>(info.st_size);
    const UniqueFd memory(::memfd_create("manyhands-locks", MFD_CLOEXEC));
    void* address = MAP_FAILED;
    if (memory && ::ftruncate(memory.get(), info.st_size) == 0)
      address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.get(), 0);
    if (address == MAP_FAILED)
      throw_errno(fmt::format("reserve {} bytes for a copy of the shared memory of process {}", size, pid));
    copy_ = {static_cast<std::byte*>(address), size};
    if (size < shm::size_of_tables()) throw_other();
    refresh(copy_.data(), shm::size_of_tables());
    view_ = {.mapping = copy_, .tables = shm::tables_in(copy_), .source = this};
  }
  ~ForeignHeap() { ::munmap(copy_.data(), copy_.size()); }
  ForeignHeap(const ForeignHeap&) = delete;
  ForeignHeap& operator=(const ForeignHeap&) = delete;

  const shm::HeapView& view() const { return view_; }

  void refresh(const void* at, std::size_t bytes) override {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(at) - copy_.data());
    // The tables stay; of the rest only what was refreshed last is needed.
    if (offset >= shm::size_of_tables() && ++refreshed_ % most_pages == 0) {
      const auto blocks = copy_.subspan(shm::size_of_tables());
      ::madvise(blocks.data(), blocks.size(), MADV_REMOVE);
    }
    if (thread_time() > most_time)
      throw Error(fmt::format(
          "the locks of process {} are too many to be shown, or its shared memory is damaged", pid_));
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t got =
          ::pread(file_.get(), copy_.data() + offset + done, bytes - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0)
        throw Error(fmt::format(
            "the shared memory of process {} could not be read: it was shortened meanwhile", pid_));
      done += static_cast<std::size_t>(got);
    }
  }

 private:
  static constexpr std::size_t most_pages = 16384;     // of blocks, to be kept
  static constexpr std::chrono::seconds most_time{5};  // of CPU: this process may have to wait for a core

  static std::chrono::nanoseconds thread_time() noexcept {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
  }

  // A memfd, and no file of that name in a file system that blocks whoever opens or reads it.
  static UniqueFd open_memory(const fs::path& descriptor) {
    const UniqueFd place(::open(descriptor.c_str(), O_PATH | O_CLOEXEC));
    struct statfs system{};
    struct stat info{};
    if (!place || ::fstatfs(place.get(), &system) != 0 || ::fstat(place.get(), &info) != 0)
      throw_errno(fmt::format("open the shared memory {}", descriptor.string()));
    if (system.f_type != TMPFS_MAGIC || !S_ISREG(info.st_mode)) throw_other();
    UniqueFd memory(::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(), O_RDONLY | O_CLOEXEC));
    if (!memory) throw_errno(fmt::format("open the shared memory {}", descriptor.string()));
    return memory;
  }

  [[noreturn]] static void throw_other() {
    throw Error("this is not the shared memory of a manyhands program, or of one of another version");
  }

  pid_t pid_;
  UniqueFd file_;
  std::span<std::byte> copy_;
  std::size_t refreshed_ = 0;
  shm::HeapView view_{};
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
  return shm::lock_report(ForeignHeap(*descriptor, pid).view());
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
  return json{{"locks", locks}, {"waits", waits}, {"deadlocks", report.cycles}}.dump(
      2, ' ', false, json::error_handler_t::replace);
}

}  // namespace manyhands::cli
