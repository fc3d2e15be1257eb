#include "manyhands/shm/segment.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/error.hpp"

namespace manyhands::shm {
namespace {

constexpr std::size_t page = 4096;

std::byte* map(int fd, std::size_t size) {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (address == MAP_FAILED) throw_errno(fmt::format("map a shared segment of {} bytes", size));
  ::madvise(address, size, MADV_DONTDUMP);  // a core file of a worker need not hold every argument
  return static_cast<std::byte*>(address);
}

}  // namespace

int resize(int fd, std::size_t size_bytes) noexcept {
  sigset_t limit;
  sigset_t before;
  ::sigemptyset(&limit);
  ::sigaddset(&limit, SIGXFSZ);
  ::pthread_sigmask(SIG_BLOCK, &limit, &before);
  const int error = ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  const timespec now{};
  if (error == EFBIG) ::sigtimedwait(&limit, nullptr, &now);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

void seal(int fd) noexcept { ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); }

bool is_sealed(int fd) noexcept {
  constexpr int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const int seals = ::fcntl(fd, F_GET_SEALS);
  struct stat info{};
  return seals >= 0 && (seals & wanted) == wanted && ::fstat(fd, &info) == 0 && info.st_nlink == 0 &&
         (info.st_uid == ::geteuid() || info.st_uid == 0);
}

Segment Segment::create(std::size_t size_bytes) {
  fill_standard_descriptors();
  UniqueFd fd(::memfd_create("manyhands", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) throw_errno("create a shared segment");
  if (const int error = resize(fd.get(), size_bytes); error != 0) {
    throw SystemError(fmt::format("size a shared segment to {} bytes{}", size_bytes,
                                  error == EFBIG ? " (ulimit -f is too small for that)" : ""),
                      error);
  }
  seal(fd.get());
  std::byte* data = map(fd.get(), size_bytes);
  return {std::move(fd), data, size_bytes};
}

Segment Segment::attach(UniqueFd fd) {
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) throw_errno("attach a shared segment");
  const auto size = static_cast<std::size_t>(info.st_size);
  std::byte* data = map(fd.get(), size);
  return {std::move(fd), data, size};
}

Segment::Segment(Segment&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Segment& Segment::operator=(Segment&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Segment::~Segment() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void Segment::discard(std::size_t offset, std::size_t size_bytes) noexcept {
  const std::size_t begin = round_up(offset, page);
  const std::size_t end = (offset + size_bytes) & ~(page - 1);
  if (begin < end) ::madvise(data_ + begin, end - begin, MADV_REMOVE);
}

}  // namespace manyhands::shm
