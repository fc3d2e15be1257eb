#include "manyhands/process/board.hpp"

#include <algorithm>

namespace manyhands::process {
namespace {

std::uint32_t hint_index(std::uint64_t hint) noexcept { return static_cast<std::uint32_t>(hint); }
std::uint64_t next_hint(std::uint64_t hint) noexcept {
  return hint + 1;
}  // chunks < 2^32: the epoch is not touched

// The chunk that `hint` points to, if the job is active, in `generation`; nullptr otherwise.
bool chunk_waits(const BoardView& view, std::uint32_t index, std::uint32_t generation) noexcept {
  const Job& job = view.job(index);
  const auto at = hint_index(job.hint.load(std::memory_order_acquire));
  if (at >= job.chunks || at >= view.layout().max_chunks() || job.stop.load(std::memory_order_relaxed) != 0)
    return false;
  const Chunk& chunk = view.chunk(index, at);
  if (chunk.owner.load(std::memory_order_relaxed) != chunk_owner(generation, chunk_open))
    return true;  // hint is behind
  return chunk.end <= job.ready.load(std::memory_order_acquire);
}

}  // namespace

bool work_available(const BoardView& view) noexcept {
  const Board& board = view.board();
  if (!board.queue.empty()) return true;
  const auto jobs = board.job_limit.load(std::memory_order_acquire);
  for (std::uint32_t index = 0; index < jobs; ++index) {
    const auto generation = view.job(index).generation.load(std::memory_order_acquire);
    if ((generation & 1) != 0 && chunk_waits(view, index, generation)) return true;
  }
  return false;
}

bool claim_chunk(const BoardView& view, std::uint32_t index, std::uint32_t worker,
                 ChunkClaim& claim) noexcept {
  Job& job = view.job(index);
  const auto generation = job.generation.load(std::memory_order_acquire);
  if ((generation & 1) == 0) return false;
  // Until a claim succeeds, the fields read here may be those of a later job; the generation in the claim
  // tells.
  for (;;) {
    auto hint = job.hint.load(std::memory_order_acquire);
    const auto at = hint_index(hint);
    if (at >= job.chunks || at >= view.layout().max_chunks() || job.stop.load(std::memory_order_relaxed) != 0)
      return false;
    Chunk& chunk = view.chunk(index, at);
    auto owner = chunk.owner.load(std::memory_order_acquire);
    if (owner == chunk_owner(generation, chunk_open)) {
      if (chunk.end > job.ready.load(std::memory_order_acquire)) return false;
      // acquire: begin and end as the parent left them; release: the parent sees our journal before it sees
      // us dead
      if (chunk.owner.compare_exchange_strong(owner, chunk_owner(generation, worker + 1),
                                              std::memory_order_acq_rel)) {
        claim = {.job = index, .generation = generation, .chunk = at};
        job.hint.compare_exchange_strong(hint, next_hint(hint), std::memory_order_acq_rel);
        return true;
      }
    }
    if ((owner >> 32) != generation) return false;  // the job we looked at is over
    job.hint.compare_exchange_strong(hint, next_hint(hint), std::memory_order_acq_rel);
  }
}

void reopen_chunk(const BoardView& view, const ChunkClaim& claim) noexcept {
  Job& job = view.job(claim.job);
  view.chunk(claim.job, claim.chunk)
      .owner.store(chunk_owner(claim.generation, chunk_open), std::memory_order_release);
  auto hint = job.hint.load(std::memory_order_relaxed);
  std::uint64_t back = 0;
  do {  // a new epoch: who saw the chunk taken cannot move the hint over it any more
    back = (((hint >> 32) + 1) << 32) | std::min(hint_index(hint), claim.chunk);
  } while (!job.hint.compare_exchange_weak(hint, back, std::memory_order_acq_rel));
}

}  // namespace manyhands::process
