#pragma once
// A value in a Queue, packed: as it lies in shared memory.

#include <cstddef>
#include <cstdint>

#include "manyhands/shm/heap.hpp"

namespace manyhands::process {

inline constexpr std::size_t cell_message_bytes = 112;

struct QueueCell {
  std::uint32_t size;  // of the small message
  std::uint32_t unused;
  shm::Offset message;  // a message of its own; 0: the small one
  std::byte small[cell_message_bytes];
};
static_assert(sizeof(QueueCell) == 128);

}  // namespace manyhands::process
