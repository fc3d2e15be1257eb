#include "manyhands/process/pool_states.hpp"

#include <fmt/core.h>

#include "manyhands/base/error.hpp"
#include "manyhands/wire/packet.hpp"

namespace manyhands::process {

TimePoint time_point(std::int64_t ns) noexcept { return TimePoint(std::chrono::nanoseconds(ns)); }

std::vector<TaskMetadata> metadata_of(const std::vector<ChunkRun>& runs, std::int64_t submitted_ns) {
  std::vector<TaskMetadata> tasks;
  tasks.reserve(runs.size());
  for (const auto& run : runs) {
    TaskMetadata task{.first = run.first, .count = run.count, .submitted = time_point(submitted_ns)};
    if (run.completed_ns != 0) {
      task.started = time_point(run.started_ns);
      task.completed = time_point(run.completed_ns);
      task.engine = static_cast<std::int32_t>(run.worker);
    }
    task.attempt = run.attempt;
    tasks.push_back(std::move(task));
  }
  return tasks;
}

void PackedItems::add(wire::Writer& writer) {
  const ByteView message = writer.bytes();
  const auto buffers = writer.buffers();
  items_.push_back({.message_begin = messages_.size(),
                    .message_size = message.size(),
                    .buffers_begin = buffers_.size(),
                    .buffer_count = buffers.size(),
                    .packet_size = wire::packet_size(message, buffers)});
  messages_.insert(messages_.end(), message.begin(), message.end());
  buffers_.insert(buffers_.end(), buffers.begin(), buffers.end());
  for (auto& copy : writer.take_copies()) copies_.push_back(std::move(copy));
}

void require_room(std::uint64_t items, std::uint64_t places) {
  if (items == places) return;
  throw Error(
      fmt::format("map_into: {} items, but the Array for their results has {} elements", items, places));
}

SharedBlock PackedItems::write(Crew& crew) const {
  std::uint64_t size = items_.size() * sizeof(PackedItem);
  for (const auto& item : items_) size = round_up(size, 64) + item.packet_size;
  SharedBlock block = crew.make_input_block(size);
  std::uint64_t at = items_.size() * sizeof(PackedItem);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    at = round_up(at, 64);
    const PackedItem place{.begin = at, .size = item.packet_size};
    std::memcpy(block.data() + i * sizeof place, &place, sizeof place);
    wire::write_packet(block.data() + at, ByteView(messages_).subspan(item.message_begin, item.message_size),
                       std::span(buffers_).subspan(item.buffers_begin, item.buffer_count));
    at += item.packet_size;
  }
  return block;
}

}  // namespace manyhands::process
