#pragma once
// UniqueFd: one owned file descriptor, closed when the owner goes. Resource; one thread.

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace manyhands {

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }

  void reset() noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;  // -1: owns nothing
};

// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed, so that none of ours becomes what
// the program takes for its standard output. Before descriptors are made that stay.
inline void fill_standard_descriptors() noexcept {
  while (true) {
    const int fd = ::open("/dev/null", O_RDWR);  // the lowest free one; inherited, as they are
    if (fd > STDERR_FILENO) ::close(fd);
    if (fd < 0 || fd > STDERR_FILENO) return;
  }
}

}  // namespace manyhands
