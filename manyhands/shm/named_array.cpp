#include "manyhands/shm/named_array.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/memory.hpp"
#include "manyhands/base/unique_fd.hpp"
#include "manyhands/shm/segment.hpp"

namespace manyhands::shm {
namespace {

constexpr std::size_t page = 4096;
constexpr std::uint64_t magic = 0x3164'656d'616e'686d;  // "mhnamed1", little endian

struct Trailer {
  std::uint64_t magic;
  ProcessStart owner;  // the process that created it
  ElementType element;
  std::uint64_t rank;
  std::array<std::uint64_t, Shape::max_rank> extents;
};
static_assert(sizeof(Trailer) <= page);

// What a block of kind `name` holds: the object, and behind it its path in /dev/shm, zero-terminated. Whole
// before the object has the name.
struct Named {
  dev_t device;
  ino_t inode;

  char* path() noexcept { return reinterpret_cast<char*>(this + 1); }
};

// The name goes with its last holder, if it is still that object's: it may never have got it, and others may
// have it.
const bool tidies = [] {
  on_last_release(BlockKind::name, [](Offset block) {
    auto& named = at<Named>(block);
    struct stat info{};
    if (::stat(named.path(), &info) == 0 && info.st_dev == named.device && info.st_ino == named.inode)
      ::unlink(named.path());
  });
  return true;
}();

std::string path_of(const std::string& name) {
  constexpr std::string_view forbidden("/\0", 2);
  if (name.empty() || name.size() > 200 || name.find_first_of(forbidden) != std::string::npos ||
      name == "." || name == "..")
    throw Error(fmt::format("'{}' cannot name shared memory: 1 to 200 characters without '/' and NUL", name));
  return "/dev/shm/" + name;
}

// An object in /dev/shm that has no name yet, so that it goes with whoever is killed before it has one.
UniqueFd make_nameless(const std::string& name) {
  UniqueFd fd(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd) throw_errno(fmt::format("create the named array '{}' in /dev/shm", name));
  return fd;
}

// Gives the object its name, in one step. Throws Error if the name is taken.
void give_name(int fd, const std::string& path, const std::string& name) {
  std::array<char, 32> itself{};
  std::snprintf(itself.data(), itself.size(), "/proc/self/fd/%d", fd);
  if (::linkat(AT_FDCWD, itself.data(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return;
  // Without /proc; this way needs a privilege on older systems.
  if (errno == ENOENT && ::linkat(fd, "", AT_FDCWD, path.c_str(), AT_EMPTY_PATH) == 0) return;
  if (errno == EEXIST)
    throw Error(
        fmt::format("create the named array '{}': the name is taken by a program that runs; use open(), or "
                    "another name",
                    name));
  throw_errno(fmt::format("create the named array '{}'", name));
}

// The trailer of an object of ours; false if it is none.
bool read_trailer(int fd, std::size_t size, Trailer& trailer) noexcept {
  return size >= page && size % page == 0 &&
         ::pread(fd, &trailer, sizeof trailer, static_cast<off_t>(size - page)) ==
             static_cast<ssize_t>(sizeof trailer) &&
         trailer.magic == magic;
}

std::byte* map(int fd, std::size_t size, const std::string& name) {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) throw_errno(fmt::format("map the shared memory '{}' of {} bytes", name, size));
  return static_cast<std::byte*>(address);
}

}  // namespace

void remove_orphaned_names() noexcept {
  DIR* const folder = ::opendir("/dev/shm");
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder)) {
    std::array<char, 260> path{};
    const std::size_t length = std::strlen(entry->d_name);
    if (length == 0 || length > 200) continue;
    path[0] = '/';
    std::memcpy(path.data() + 1, entry->d_name, length);
    const UniqueFd fd(::shm_open(path.data(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0));
    struct stat info{};
    Trailer trailer{};
    if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid())
      continue;
    if (read_trailer(fd.get(), static_cast<std::size_t>(info.st_size), trailer) &&
        !process_lives(trailer.owner))
      ::shm_unlink(path.data());
  }
  ::closedir(folder);
}

std::shared_ptr<NamedMemory> NamedMemory::create(const std::string& name, const Shape& shape,
                                                 const ElementType& element) {
  static_cast<void>(tidies);
  const std::string path = path_of(name);
  std::size_t bytes = 0;
  if (shape.count() == 0)
    throw Error(
        fmt::format("create the named array '{}' of no elements: it must have at least one, as memory "
                    "under a name cannot be empty",
                    name));
  if (__builtin_mul_overflow(shape.count(), element.size, &bytes) || bytes > std::size_t{1} << 60)
    throw ResourceExhausted(fmt::format("an array of {} elements of {} bytes is larger than any memory",
                                        shape.count(), element.size));
  require_memory(bytes, "a NamedArray");
  remove_orphaned_names();
  const UniqueFd fd = make_nameless(name);
  auto memory = std::shared_ptr<NamedMemory>(new NamedMemory(name, shape));
  memory->mapped_ = round_up(bytes, page) + page;
  // /dev/shm may be smaller than the memory: find out now, and not by a SIGBUS later.
  if (const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(memory->mapped_)); error != 0) {
    throw ResourceExhausted(
        fmt::format("the named array '{}' needs {} MiB of /dev/shm: {} (containers often have 64 MiB there)",
                    name, (memory->mapped_ >> 20) + 1, std::strerror(error)));
  }
  memory->data_ = map(fd.get(), memory->mapped_, name);
  Trailer trailer{
      .magic = magic, .owner = this_process_start(), .element = element, .rank = shape.rank(), .extents = {}};
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) trailer.extents[axis] = shape[axis];
  std::memcpy(memory->data_ + memory->mapped_ - page, &trailer, sizeof trailer);
  // All is whole, and who tidies up knows of it, before the name is there: at no moment would a kill leave a
  // name that nobody removes.
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) throw_errno(fmt::format("create the named array '{}'", name));
  memory->owned_ = Block::create(sizeof(Named) + path.size() + 1, BlockKind::name);
  auto& named = at<Named>(memory->owned_->offset());
  std::memcpy(named.path(), path.c_str(), path.size() + 1);
  named.device = info.st_dev;
  named.inode = info.st_ino;
  give_name(fd.get(), path, name);
  return memory;
}

std::shared_ptr<NamedMemory> NamedMemory::open(const std::string& name, const ElementType& element) {
  const std::string path = path_of(name);
  remove_orphaned_names();
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    if (errno == ENOENT)
      throw Error(fmt::format("open the named array '{}': no program that runs has created it", name));
    throw_errno(fmt::format("open the named array '{}'", name));
  }
  struct stat info{};
  Trailer trailer{};
  if (::fstat(fd.get(), &info) != 0) throw_errno(fmt::format("open the named array '{}'", name));
  const auto size = static_cast<std::size_t>(info.st_size);
  if (!read_trailer(fd.get(), size, trailer) || trailer.rank == 0 || trailer.rank > Shape::max_rank)
    throw Error(
        fmt::format("open the named array '{}': that shared memory was not made by mh::NamedArray", name));
  if (trailer.element.size != element.size || trailer.element.hash != element.hash)
    throw Error(fmt::format("open the named array '{}': it has elements of another type, of {} bytes", name,
                            trailer.element.size));
  std::array<std::size_t, Shape::max_rank> extents{};
  std::copy_n(trailer.extents.begin(), trailer.rank, extents.begin());
  const Shape shape(std::span<const std::size_t>(extents.data(), trailer.rank));
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(shape.count(), element.size, &bytes) || bytes > size - page)
    throw Error(fmt::format("open the named array '{}': it is smaller than it says", name));
  auto memory = std::shared_ptr<NamedMemory>(new NamedMemory(name, shape));
  memory->mapped_ = size;
  memory->data_ = map(fd.get(), size, name);
  return memory;
}

NamedMemory::~NamedMemory() {
  if (data_ != nullptr) ::munmap(data_, mapped_);
}

}  // namespace manyhands::shm
