#include "manyhands/mpi/halo.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

namespace manyhands::mpi {

struct Halo::Exchange::State {
  Comm comm;                                     // messages of its own
  std::vector<std::vector<MPI_Request>> phases;  // one after the other
  std::size_t phase = 0;                         // that runs, if started
  bool started = false;

  ~State() {
    if (!is_active()) return;
    try {
      finish();
    } catch (const manyhands::Error&) {  // nobody is left to be told
    }
    for (auto& requests : phases) {
      for (MPI_Request& request : requests) MPI_Request_free(&request);
    }
  }
  void start_phase() {
    auto& requests = phases[phase];
    if (requests.empty()) return;  // some MPIs take no null pointer for no requests
    detail::check(MPI_Startall(static_cast<int>(requests.size()), requests.data()), "Halo::start",
                  {.comm = comm.native()});
  }
  void wait_phase() {
    auto& requests = phases[phase];
    const int n = static_cast<int>(requests.size());
    if (n == 0) return;
    if (detail::driven.load(std::memory_order_relaxed) == 0) {
      detail::check(MPI_Waitall(n, requests.data(), MPI_STATUSES_IGNORE), "Halo::wait",
                    {.comm = comm.native()});
      return;
    }
    detail::Backoff backoff;
    for (int done = 0;;) {
      detail::check(MPI_Testall(n, requests.data(), &done, MPI_STATUSES_IGNORE), "Halo::wait",
                    {.comm = comm.native()});
      if (done != 0) return;
      backoff.pause();
    }
  }
  void start() {
    detail::require_active("Halo::start");
    if (started)
      detail::fail(Errc::request, "Halo::start", {.comm = comm.native()},
                   "a round is under way: wait() first");
    phase = 0;
    if (!phases.empty()) start_phase();
    started = true;
  }
  void finish() {
    if (!started) return;
    started = false;  // also if it fails
    for (; phase < phases.size(); ++phase) {
      if (phase != 0) start_phase();
      wait_phase();
    }
  }
};

namespace {

constexpr const char* verb = "Halo";

// The cells along one dimension, of `n` with `width` ghosts on each side.
struct Cells {
  int start;
  int size;
};
struct Axis {
  int n;
  int width;
  Cells all() const { return {0, n}; }
  Cells own() const { return {width, n - 2 * width}; }
  // The outermost own cells in direction -1 or 1, and the ghosts that data going in that direction fills.
  Cells sent(int direction) const { return {direction > 0 ? n - 2 * width : width, width}; }
  Cells received(int direction) const { return {direction > 0 ? 0 : n - width, width}; }
};

std::vector<Axis> axes_of(const Cart& grid, const std::vector<std::int64_t>& shape,
                          const HaloOptions& options) {
  const MPI_Comm comm = grid.native();
  const std::size_t dimensions = grid.dims().size();
  if (shape.size() < dimensions)
    detail::fail(Errc::dims, verb, {.comm = comm},
                 fmt::format("a field of {} dimensions on a grid of {}", shape.size(), dimensions));
  if (!options.widths.empty() && options.widths.size() != dimensions)
    detail::fail(Errc::dims, verb, {.comm = comm},
                 fmt::format("{} widths for a grid of {} dimensions", options.widths.size(), dimensions));
  std::vector<Axis> axes;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const int width = d >= dimensions ? 0 : options.widths.empty() ? options.width : options.widths[d];
    if (width < 0 || shape[d] < 3 * std::int64_t{width} || shape[d] > std::numeric_limits<int>::max())
      detail::fail(
          Errc::dims, verb, {.comm = comm},
          fmt::format("the field of {} has dimension {} with ghost layers of width {} on both sides: it "
                      "needs at least as many own cells",
                      fmt::join(shape, " x "), d, width));
    axes.push_back({static_cast<int>(shape[d]), width});
  }
  return axes;
}

// The rank at `direction` from this one; proc_null beyond an edge.
int neighbour(const Cart& grid, const std::vector<int>& direction, int sign) {
  std::vector<int> at = grid.coords();
  for (std::size_t d = 0; d < at.size(); ++d) {
    at[d] += sign * direction[d];
    if (!grid.periodic()[d] && (at[d] < 0 || at[d] >= grid.dims()[d])) return proc_null;
  }
  return grid.rank_of(at);
}

// All directions with entries -1, 0 and 1, but none along an axis without ghosts; (0, 0, ...) is none.
std::vector<std::vector<int>> directions_of(const std::vector<Axis>& axes, std::size_t dimensions) {
  std::vector<std::vector<int>> all = {{}};
  for (std::size_t d = 0; d < dimensions; ++d) {
    std::vector<std::vector<int>> longer;
    for (const auto& start : all) {
      for (int step = -1; step <= 1; ++step) {
        if (step != 0 && axes[d].width == 0) continue;
        longer.push_back(start);
        longer.back().push_back(step);
      }
    }
    all = std::move(longer);
  }
  std::erase(all, std::vector<int>(dimensions, 0));
  return all;
}

Datatype box_type(const std::vector<Axis>& axes, const std::vector<Cells>& box, MPI_Datatype element) {
  std::vector<int> full;
  std::vector<int> sizes;
  std::vector<int> starts;
  for (std::size_t d = 0; d < axes.size(); ++d) {
    full.push_back(axes[d].n);
    sizes.push_back(box[d].size);
    starts.push_back(box[d].start);
  }
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_create_subarray(static_cast<int>(full.size()), full.data(), sizes.data(),
                                         starts.data(), MPI_ORDER_C, element, &type),
                verb);
  detail::check(MPI_Type_commit(&type), verb);
  return Datatype::adopt(type);
}

}  // namespace

Halo::Halo(const Cart& grid, void* data, MPI_Datatype type, const std::vector<std::int64_t>& shape,
           const HaloOptions& options)
    : state_(std::make_shared<Exchange::State>()) {
  if (!grid) detail::fail(Errc::comm, verb, {}, "the grid is empty: this rank takes no part in it");
  const std::vector<Axis> axes = axes_of(grid, shape, options);
  const std::size_t dimensions = grid.dims().size();
  state_->comm = Comm::dup(grid.native());
  const MPI_Comm comm = state_->comm.native();

  int tag = 0;
  // Data goes in `direction`; of the other axes those cells that `across` says.
  const auto add = [&](std::vector<MPI_Request>& requests, const std::vector<int>& direction, auto across) {
    std::vector<Cells> sent;
    std::vector<Cells> received;
    for (std::size_t d = 0; d < axes.size(); ++d) {
      const int step = d < dimensions ? direction[d] : 0;
      sent.push_back(step == 0 ? across(d) : axes[d].sent(step));
      received.push_back(step == 0 ? across(d) : axes[d].received(step));
    }
    const int dest = neighbour(grid, direction, 1);
    const int source = neighbour(grid, direction, -1);
    ++tag;
    if (source != proc_null) {
      const Datatype box = box_type(axes, received, type);
      requests.push_back(MPI_REQUEST_NULL);
      detail::check(MPI_Recv_init(data, 1, box.native(), source, tag, comm, &requests.back()), verb,
                    {.comm = comm, .source = source});
    }
    if (dest != proc_null) {
      const Datatype box = box_type(axes, sent, type);
      requests.push_back(MPI_REQUEST_NULL);
      detail::check(MPI_Send_init(data, 1, box.native(), dest, tag, comm, &requests.back()), verb,
                    {.comm = comm, .dest = dest});
    }
  };

  const auto along = [](const std::vector<int>& direction) {
    return std::ranges::count_if(direction, [](int step) { return step != 0; }) == 1;
  };
  const auto directions = directions_of(axes, dimensions);
  if (options.corners == Corners::ordered) {
    for (std::size_t axis = 0; axis < dimensions; ++axis) {
      auto& requests = state_->phases.emplace_back();
      for (const auto& direction : directions) {
        if (along(direction) && direction[axis] != 0)
          add(requests, direction, [&](std::size_t d) { return d < axis ? axes[d].all() : axes[d].own(); });
      }
    }
  } else {
    auto& requests = state_->phases.emplace_back();
    for (const auto& direction : directions) {
      if (options.corners == Corners::diagonal || along(direction))
        add(requests, direction, [&](std::size_t d) { return axes[d].own(); });
    }
  }
}

Halo::Halo(Halo&& other) noexcept = default;
Halo& Halo::operator=(Halo&& other) noexcept = default;
Halo::~Halo() {
  if (state_ == nullptr || !is_active()) return;
  try {
    state_->finish();
  } catch (const manyhands::Error&) {  // nobody is left to be told
  }
}

Halo::Exchange Halo::start() {
  if (state_ == nullptr) detail::fail(Errc::request, "Halo::start", {}, "the halo is empty: moved from");
  state_->start();
  return Exchange(*this);
}

void Halo::Exchange::wait() {
  detail::require_active("Halo::wait");
  if (const auto ending = std::move(halo_)) ending->finish();
}

Halo::Exchange::~Exchange() {
  if (halo_ == nullptr || !is_active()) return;
  try {
    halo_->finish();
  } catch (const manyhands::Error&) {  // nobody is left to be told
  }
}

}  // namespace manyhands::mpi
