#include "manyhands/mpi/sort.hpp"

namespace manyhands::mpi::detail {

std::int64_t samples_of(std::int64_t count, std::int64_t total, int ranks) noexcept {
  if (count == 0) return 0;
  // A part is wrong by the distance of two samples for each rank at most: as many samples as there are ranks,
  // for an average rank, keep it below twice the average.
  const std::int64_t per_rank = std::clamp(ranks, 16, 128);
  const double share = static_cast<double>(count) / static_cast<double>(total);
  const auto wanted = static_cast<std::int64_t>(share * static_cast<double>(per_rank * ranks)) + 1;
  return std::min(wanted, count);
}

}  // namespace manyhands::mpi::detail
