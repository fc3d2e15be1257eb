#pragma once
// BufferOwner: the container whose elements are an out-of-band buffer, as the Writer notes it and the Reader
// uses it: a value whose arrays are received where they lie is unpacked without a copy of them.

namespace manyhands::wire {

struct BufferOwner {
  const void* container = nullptr;  // null: not known
  const void* type = nullptr;       // &owner_type<C> of the container's type C
};
template <class C>
inline constexpr char owner_type = 0;

}  // namespace manyhands::wire
