#pragma once
// A board of its own for tests of single parts: two workers that are threads of the test.

#include "manyhands/process/board.hpp"

namespace manyhands::test {

struct BoardFixture {
  static constexpr std::uint32_t workers = 2;
  process::Layout layout{workers, std::uint64_t{1} << 24};
  shm::Segment segment = shm::Segment::create(layout.size());
  process::BoardView view{segment.data(), layout};

  BoardFixture() {
    view.board().workers = workers;
    view.board().max_chunks = layout.max_chunks();
    for (std::uint32_t worker = 0; worker < workers; ++worker) view.slot(worker).gate.store(1);
    view.board().cores = 2;
    view.board().region_size = std::uint64_t{1} << 24;
  }

  // Publishes a map of `items` items in chunks of `size`, all in place.
  void start_job(std::uint32_t index, std::uint64_t items, std::uint64_t size) {
    process::Job& job = view.job(index);
    const auto generation = job.generation.load() + 1;
    job.chunks = static_cast<std::uint32_t>((items + size - 1) / size);
    job.items = items;
    job.stop.store(0);
    job.hint.store(0);
    job.ready.store(items);
    for (std::uint32_t i = 0; i < job.chunks; ++i) {
      process::Chunk& chunk = view.chunk(index, i);
      chunk.begin = i * size;
      chunk.end = std::min(items, (i + 1) * size);
      chunk.owner.store(process::chunk_owner(generation, process::chunk_open));
    }
    job.generation.store(generation, std::memory_order_release);
    view.board().job_limit.store(index + 1, std::memory_order_release);
  }
};

}  // namespace manyhands::test
