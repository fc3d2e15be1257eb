#pragma once
// Slots<T>: n plain values side by side, for MPI to write into; a std::vector<T> afterwards.
//
// std::vector<bool> has no bools side by side: there they are held apart, and copied.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace manyhands::mpi::detail {

template <class T>
class Slots {
 public:
  explicit Slots(std::size_t n) : values_(n) {}
  template <class R>
  static Slots copy_of(const R& values) {
    Slots made(std::ranges::size(values));
    std::ranges::copy(values, made.values_.begin());
    return made;
  }
  static Slots take_over(std::vector<T>&& values) {
    Slots made(0);
    made.values_ = std::move(values);
    return made;
  }
  std::span<T> span() noexcept { return values_; }
  std::vector<T> take() noexcept { return std::move(values_); }

 private:
  std::vector<T> values_;
};

template <>
class Slots<bool> {
 public:
  explicit Slots(std::size_t n) : values_(std::make_unique<bool[]>(checked(n))), size_(n) {}
  template <class R>
  static Slots copy_of(const R& values) {
    Slots made(std::ranges::size(values));
    std::ranges::copy(values, made.values_.get());
    return made;
  }
  static Slots take_over(std::vector<bool>&& values) { return copy_of(values); }
  std::span<bool> span() noexcept { return {values_.get(), size_}; }
  std::vector<bool> take() const { return std::vector<bool>(values_.get(), values_.get() + size_); }

 private:
  // As std::vector does it. Without, g++ 12 warns at -O2 in programs that use us, of a size that cannot be.
  static std::size_t checked(std::size_t n) {
    if (n > static_cast<std::size_t>(PTRDIFF_MAX)) throw std::length_error("more bools than fit into memory");
    return n;
  }

  std::unique_ptr<bool[]> values_;
  std::size_t size_;
};

}  // namespace manyhands::mpi::detail
