#pragma once
// Segment: a piece of memory that several processes map. It has no name: it lives as a memfd descriptor,
// which is handed on by fork or fd passing, and is gone when the last process that holds it is gone, however
// it ended.
//
// Sparse: a segment may be created far larger than the machine's memory; only pages that are touched are paid
// for. Source: memfd_create(2).

#include <cstddef>
#include <span>

#include "manyhands/base/unique_fd.hpp"

namespace manyhands::shm {

class Segment {
 public:
  // A new zero-filled segment of `size_bytes` bytes, mapped. Throws SystemError.
  static Segment create(std::size_t size_bytes);
  // Maps the segment behind `fd` in full. Throws SystemError.
  static Segment attach(UniqueFd fd);

  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  ~Segment();  // unmaps; the memory goes with the last holder

  // Gives the pages of [offset, offset + size_bytes) back to the machine; they read as zero afterwards.
  // Only whole pages inside the range are freed.
  void discard(std::size_t offset, std::size_t size_bytes) noexcept;

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  int fd() const noexcept { return fd_.get(); }

 private:
  Segment(UniqueFd fd, std::byte* data, std::size_t size) noexcept
      : fd_(std::move(fd)), data_(data), size_(size) {}

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// ftruncate() that does not end the program by SIGXFSZ where a limit on file sizes stands in the way; errno
// or 0.
int resize(int fd, std::size_t size_bytes) noexcept;

// Fixes the size of a memfd for good: nobody who has the descriptor can take away pages that others map.
void seal(int fd) noexcept;
// Whether `fd` is memory that seal() was called on, of this user or root: no file that somebody else could
// make.
bool is_sealed(int fd) noexcept;

}  // namespace manyhands::shm
