#include "manyhands/mpi/shared_array.hpp"

namespace manyhands::mpi::detail {

namespace {

Info hints_of(const SharedArrayOptions& options) {
  Info info;
  if (!options.contiguous) info.set("alloc_shared_noncontig", "true");
  return info;
}

}  // namespace

SharedWindow::SharedWindow(const Comm& node, std::size_t element, std::size_t count,
                           const SharedArrayOptions& options)
    : WindowBase(node, {WindowFlavor::shared, element, count, nullptr}, hints_of(options), "SharedArray") {
  for (int rank = 0; rank < node.size(); ++rank) {
    total_ += size_of(rank);
    // The first rank that has elements.
    if (options.contiguous && first_ == nullptr && size_of(rank) != 0) first_ = part(rank, element).data;
  }
}

SharedPart SharedWindow::part(int rank, std::size_t element) const {
  const std::size_t elements = size_of(rank);
  if (rank == proc_null || elements == 0) return {nullptr, 0};
  MPI_Aint bytes = 0;
  int unit = 0;
  void* data = nullptr;
  check(MPI_Win_shared_query(native(), rank, &bytes, &unit, static_cast<void*>(&data)), "SharedArray::of",
        {.source = rank});
  return {data, elements * element};
}

}  // namespace manyhands::mpi::detail
