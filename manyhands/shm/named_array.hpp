#pragma once
// NamedArray: an array in POSIX shared memory under a name, for programs that are no part of this one:
// Python, C, another manyhands program. Between the processes of one program use Array, which needs no name.
//
//   auto a = mh::NamedArray<double>::create("temperatures", {480, 640});
//
// and there, row-major from byte 0:
//
//   multiprocessing.shared_memory.SharedMemory("temperatures").buf
//
// The name goes with the last handle of the program that created it, whenever its processes are killed: the
// zygote removes it, or, if that was killed too or never started, the next program that creates or opens a
// named array. Who has it mapped keeps the memory. Layout of the object: [ elements, row-major ][ padding to
// 4096 bytes ][ trailer of 4096 bytes: owner, shape, element ].

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <typeinfo>

#include "manyhands/shm/array.hpp"

namespace manyhands {
namespace shm {

struct ElementType {
  std::uint64_t size;  // bytes
  std::uint64_t hash;
};

class NamedMemory {
 public:
  static std::shared_ptr<NamedMemory> create(const std::string& name, const Shape& shape,
                                             const ElementType& element);
  static std::shared_ptr<NamedMemory> open(const std::string& name, const ElementType& element);
  ~NamedMemory();
  NamedMemory(const NamedMemory&) = delete;
  NamedMemory& operator=(const NamedMemory&) = delete;

  std::byte* data() const noexcept { return data_; }
  const Shape& shape() const noexcept { return shape_; }
  const std::string& name() const noexcept { return name_; }

 private:
  NamedMemory(std::string name, const Shape& shape) : name_(std::move(name)), shape_(shape) {}

  std::string name_;
  Shape shape_;
  std::byte* data_ = nullptr;
  std::size_t mapped_ = 0;  // bytes
  BlockPtr owned_;          // with its last holder the name goes; null: opened
};

// Removes the names of owners that no longer live. Called by create and open.
void remove_orphaned_names() noexcept;

}  // namespace shm

template <class T>
class NamedArray {
  static_assert(std::is_trivially_copyable_v<T>,
                "the elements of an mh::NamedArray must be trivially copyable");

 public:
  // Zeros under a new name. Throws Error if the name is taken or no name (1 to 200 characters without '/'),
  // or if there are no elements, ResourceExhausted if the memory is not there.
  static NamedArray create(const std::string& name, const Shape& shape) {
    return NamedArray(shm::NamedMemory::create(name, shape, element()));
  }
  // The array that a manyhands program created under that name. Throws Error if there is none, or of other
  // elements.
  static NamedArray open(const std::string& name) {
    return NamedArray(shm::NamedMemory::open(name, element()));
  }

  std::span<T> span() const noexcept { return {begin(), size()}; }
  T* begin() const noexcept { return reinterpret_cast<T*>(memory_->data()); }
  T* end() const noexcept { return begin() + size(); }
  T& operator[](std::size_t i) const noexcept { return begin()[i]; }  // in row-major order; not checked
  std::size_t size() const noexcept { return memory_->shape().count(); }
  const Shape& shape() const noexcept { return memory_->shape(); }
  const std::string& name() const noexcept { return memory_->name(); }

 private:
  explicit NamedArray(std::shared_ptr<shm::NamedMemory> memory) noexcept : memory_(std::move(memory)) {}
  static shm::ElementType element() noexcept {
    return {sizeof(T), shm::element_type(sizeof(T), alignof(T), typeid(T).name())};
  }

  std::shared_ptr<shm::NamedMemory> memory_;  // shared by the handles of this process
};

}  // namespace manyhands
