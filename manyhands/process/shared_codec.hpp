#pragma once
// Handles to shared memory as arguments, results and messages: a handle travels as the place of its block,
// and the message keeps the block alive until it was read. They travel between the processes of one program;
// packed for anywhere else they are an Error.

#include <array>
#include <memory>
#include <span>

#include "manyhands/shm/array.hpp"
#include "manyhands/shm/block.hpp"
#include "manyhands/wire/codec.hpp"

namespace manyhands::wire {

template <shm::SharedHandle T>
struct Codec<T> {
  static void pack(Writer& writer, const T& handle) {
    shm::Parcel::add(handle.block());
    writer.unsigned_integer(handle.block()->offset());
  }
  static T unpack(Reader& reader) { return T(shm::Block::attach(reader.unsigned_integer(), T::block_kind)); }
};

// An Array: [block, first element, extents..., then its lock's block, 0 if it has none].
template <class T>
struct Codec<Array<T>> {
  static void pack(Writer& writer, const Array<T>& array) {
    if (array.block() == nullptr) {
      writer.array(0);
      return;
    }
    shm::Parcel::add(array.block());
    writer.array(3 + array.rank());
    writer.unsigned_integer(array.block()->offset());
    writer.unsigned_integer(array.first());
    for (const std::size_t extent : array.shape().extents()) writer.unsigned_integer(extent);
    const auto& lock = array.lock_handle();
    if (lock) shm::Parcel::add(lock->block());
    writer.unsigned_integer(lock ? lock->block()->offset() : 0);
  }
  static Array<T> unpack(Reader& reader) {
    const std::size_t fields = reader.array();
    if (fields == 0) return {};
    if (fields < 4 || fields > 3 + Shape::max_rank) reader.reject("expected the handle of an mh::Array");
    const auto block = reader.unsigned_integer();
    const auto first = reader.unsigned_integer();
    std::array<std::size_t, Shape::max_rank> extents{};
    for (std::size_t axis = 0; axis < fields - 3; ++axis) extents[axis] = reader.unsigned_integer();
    const auto lock = reader.unsigned_integer();
    return Array<T>::attach(
        block, first, Shape(std::span<const std::size_t>(extents.data(), fields - 3)),
        lock == 0 ? nullptr : std::make_shared<Lock>(shm::Block::attach(lock, Lock::block_kind)));
  }
};

}  // namespace manyhands::wire
