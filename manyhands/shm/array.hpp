#pragma once
// Array: numbers, or plain structs, in memory that all processes of the program share.
//
//   mh::Array<double> a(1'000'000);              // zeros
//   mh::Array<float> image({480, 640, 3});       // row-major
//   std::iota(a.begin(), a.end(), 0.0);
//   // In place, nothing is copied:
//   pool.map([](mh::Array<double> part) { for (double& x : part) x *= 2; }, a.split(8));
//
// An Array is a handle: copies, also those in other processes, are the same elements, and a slice is a handle
// to some of them. Passing one to a task costs its handle, some 20 bytes. The memory lives as long as any
// process has a handle. Element access is that of plain memory: what several processes do to one element at a
// time is theirs to order, with the Array's lock() if it was made with one.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ranges>
#include <span>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/shm/lock.hpp"

namespace manyhands {

// Extents of an Array, outermost first: {rows, columns}. A single number is the shape of a vector.
class Shape {
 public:
  static constexpr std::size_t max_rank = 8;

  Shape(std::size_t size) noexcept : extents_{size}, rank_(1) {}  // implicit, as are all lists
  // Throws Error if there are more than max_rank extents, or none.
  Shape(std::initializer_list<std::size_t> extents);
  explicit Shape(std::span<const std::size_t> extents);

  std::size_t rank() const noexcept { return rank_; }
  std::size_t operator[](std::size_t axis) const noexcept { return extents_[axis]; }
  std::span<const std::size_t> extents() const noexcept { return {extents_.data(), rank_}; }
  // The product of the extents. Throws Error if it does not fit into std::size_t.
  std::size_t count() const;
  friend bool operator==(const Shape& a, const Shape& b) noexcept;

 private:
  std::array<std::size_t, max_rank> extents_{};
  std::size_t rank_;
};

struct ArrayOptions {
  bool with_lock = false;      // lock() may be called
  bool uninitialized = false;  // leaves out the zeros, for memory that is written at once
};

namespace shm {
[[noreturn]] void reject_index(const char* what, std::size_t index, std::size_t size);
[[noreturn]] void reject_slice(std::size_t begin, std::size_t end, std::size_t size);
[[noreturn]] void reject_shape(const Shape& shape, std::size_t count);
[[noreturn]] void reject_negative(std::intmax_t size);
[[noreturn]] void reject_lockless();
std::uint64_t element_type(std::size_t size, std::size_t alignment, const char* name) noexcept;
BlockPtr create_array(const Shape& shape, std::size_t element_size, std::uint64_t type, bool zero);
// The block of an array that came in a message. Throws Error if it holds other elements, or fewer.
BlockPtr attach_array(Offset payload, std::uint64_t type, const Shape& shape, std::size_t first,
                      std::size_t element_size);
}  // namespace shm

template <class T>
class Array {
  static_assert(
      std::is_trivially_copyable_v<T>,
      "the elements of an mh::Array must be trivially copyable: processes see their bytes, nothing else");

 public:
  using value_type = T;
  using iterator = T*;

  Array() noexcept = default;  // of no elements

  // Zeros. Throws ResourceExhausted with the numbers if the machine or the cgroup has not enough memory left,
  // instead of having the program killed later.
  explicit Array(const Shape& shape, ArrayOptions options = {})
      : block_(shm::create_array(shape, sizeof(T), type(), !options.uninitialized)),
        data_(first_of(block_)),
        shape_(shape),
        size_(shape.count()) {
    if (options.with_lock) lock_ = std::make_shared<Lock>();
  }
  explicit Array(std::initializer_list<std::size_t> extents, ArrayOptions options = {})
      : Array(Shape(extents), options) {}
  template <std::signed_integral I>
  explicit Array(I size, ArrayOptions options = {}) : Array(Shape(checked(size)), options) {}

  // A copy of what `range` holds.
  template <std::ranges::sized_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
  static Array of(Range&& range, ArrayOptions options = {}) {
    options.uninitialized = true;
    Array array(Shape(static_cast<std::size_t>(std::ranges::size(range))), options);
    std::ranges::copy(range, array.begin());
    return array;
  }

  T& operator[](std::size_t i) const noexcept { return data_[i]; }  // in row-major order; not checked
  // Throws Error if `i` is too large.
  T& at(std::size_t i) const {
    if (i >= size()) shm::reject_index("at", i, size());
    return data_[i];
  }
  // a(i, j, k): requires as many indices as the Array has dimensions, each below its extent; throws Error
  // else.
  template <std::convertible_to<std::size_t>... I>
    requires(sizeof...(I) > 1)
  T& operator()(I... indices) const {
    const std::array<std::size_t, sizeof...(I)> at{static_cast<std::size_t>(indices)...};
    if (at.size() != rank()) shm::reject_index("the number of indices", at.size(), rank());
    std::size_t place = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) {
      if (at[axis] >= shape_[axis]) shm::reject_index("an index", at[axis], shape_[axis]);
      place = place * shape_[axis] + at[axis];
    }
    return data_[place];
  }

  // Elements begin..end of the first dimension (rows of a matrix): the same memory. Throws Error if they are
  // none.
  Array slice(std::size_t begin, std::size_t end) const {
    if (begin > end || end > extent()) shm::reject_slice(begin, end, extent());
    Array part = *this;
    part.data_ = data_ + begin * row_size();
    part.shape_ = with_extent(end - begin);
    part.size_ = part.shape_.count();
    return part;
  }
  // The i-th of the first dimension, with one dimension less: row i of a matrix. Requires rank() > 1.
  Array row(std::size_t i) const {
    if (rank() < 2) shm::reject_index("row() of rank", rank(), 2);
    Array part = slice(i, i + 1);
    part.shape_ = Shape(shape_.extents().subspan(1));
    return part;
  }
  // `parts` slices of the first dimension whose sizes differ by one at most, in order: the items of a map.
  std::vector<Array> split(std::size_t parts) const {
    if (parts == 0) shm::reject_index("the number of parts", 0, 0);
    std::vector<Array> slices;
    slices.reserve(parts);
    for (std::size_t i = 0; i < parts; ++i)
      slices.push_back(slice(extent() * i / parts, extent() * (i + 1) / parts));
    return slices;
  }
  // The same elements in another shape. Throws Error if the counts differ.
  Array reshape(const Shape& shape) const {
    if (shape.count() != size()) shm::reject_shape(shape, size());
    Array same = *this;
    same.shape_ = shape;
    return same;
  }

  std::span<T> span() const noexcept { return {data_, size()}; }
  operator std::span<T>() const noexcept { return span(); }  // implicit: algorithms take spans
  operator std::span<const T>() const noexcept
    requires(!std::is_const_v<T>)
  {
    return span();
  }
  T* data() const noexcept { return data_; }
  T* begin() const noexcept { return data_; }
  T* end() const noexcept { return data_ + size(); }
  std::size_t size() const noexcept { return size_; }  // of elements
  bool empty() const noexcept { return size() == 0; }
  const Shape& shape() const noexcept { return shape_; }
  std::size_t rank() const noexcept { return shape_.rank(); }

  // The lock that was made with the Array, shared by all its handles and slices. Throws Error if there is
  // none.
  Lock& lock() const {
    if (lock_ == nullptr) shm::reject_lockless();
    return *lock_;
  }

  // ---- For the codec (process/shared_codec.hpp).

  const shm::BlockPtr& block() const noexcept { return block_; }
  const std::shared_ptr<Lock>& lock_handle() const noexcept { return lock_; }
  // Elements before the first, in the block.
  std::size_t first() const noexcept {
    return block_ == nullptr ? 0 : static_cast<std::size_t>(data_ - first_of(block_));
  }
  static Array attach(shm::Offset payload, std::size_t first, const Shape& shape,
                      std::shared_ptr<Lock> lock) {
    Array array;
    array.block_ = shm::attach_array(payload, type(), shape, first, sizeof(T));
    array.data_ = first_of(array.block_) + first;
    array.shape_ = shape;
    array.size_ = shape.count();
    array.lock_ = std::move(lock);
    return array;
  }

 private:
  static std::uint64_t type() noexcept { return shm::element_type(sizeof(T), alignof(T), typeid(T).name()); }
  static T* first_of(const shm::BlockPtr& block) noexcept { return reinterpret_cast<T*>(block->data()); }
  template <std::signed_integral I>
  static std::size_t checked(I size) {
    if (size < 0) shm::reject_negative(size);
    return static_cast<std::size_t>(size);
  }
  std::size_t extent() const noexcept { return shape_[0]; }
  std::size_t row_size() const noexcept { return extent() == 0 ? 0 : size() / extent(); }
  Shape with_extent(std::size_t extent) const {
    std::array<std::size_t, Shape::max_rank> extents{};
    std::ranges::copy(shape_.extents(), extents.begin());
    extents[0] = extent;
    return Shape(std::span<const std::size_t>(extents.data(), rank()));
  }

  shm::BlockPtr block_;  // null: no elements
  T* data_ = nullptr;
  Shape shape_{0};
  std::size_t size_ = 0;        // the product of the extents
  std::shared_ptr<Lock> lock_;  // shared by the handles of this process; null: none
};

// What Pool::map_shared returns: results that lie where the workers wrote them.
template <class T>
using SharedVector = Array<T>;

}  // namespace manyhands
