#include "manyhands/mpi/neighborhood.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace detail {
namespace {

// In which order a call matches several messages between the same two ranks: as MPI 4.0 says, or not.
enum class Matching { right, in_order, reversed, unknown };
struct Matchings {
  Matching alltoall, alltoallw;            // of the nonblocking calls
  Matching alltoall_init, alltoallw_init;  // of the persistent ones
};

// Tries them on a grid of this process alone, which is its own neighbour four times.
Matchings find_matchings() {
  MPI_Comm grid = MPI_COMM_NULL;
  const int ones[2] = {1, 1};
  check(MPI_Cart_create(MPI_COMM_SELF, 2, ones, ones, 0, &grid), "neighbor_alltoall");
  MPI_Comm_set_errhandler(grid, MPI_ERRORS_RETURN);
  const int out[4] = {0, 1, 2, 3};
  int in[4];
  MPI_Request request = MPI_REQUEST_NULL;
  const int counts[4] = {1, 1, 1, 1};
  const MPI_Aint offsets[4] = {0, sizeof(int), 2 * sizeof(int), 3 * sizeof(int)};
  const MPI_Datatype types[4] = {MPI_INT, MPI_INT, MPI_INT, MPI_INT};
  const auto matching = [&](int code) {
    check(code, "neighbor_alltoall");
    check(MPI_Wait(&request, MPI_STATUS_IGNORE), "neighbor_alltoall");
    const auto came = [&](int a, int b, int c, int d) {
      return in[0] == a && in[1] == b && in[2] == c && in[3] == d;
    };
    return came(1, 0, 3, 2)   ? Matching::right
           : came(0, 1, 2, 3) ? Matching::in_order
           : came(3, 2, 1, 0) ? Matching::reversed
                              : Matching::unknown;
  };
  Matchings found{};
  found.alltoall = matching(MPI_Ineighbor_alltoall(out, 1, MPI_INT, in, 1, MPI_INT, grid, &request));
  found.alltoallw = matching(
      MPI_Ineighbor_alltoallw(out, counts, offsets, types, in, counts, offsets, types, grid, &request));
#if MH_MPI_HAS_PERSISTENT_COLLECTIVES
  check(MPI_Neighbor_alltoall_init(out, 1, MPI_INT, in, 1, MPI_INT, grid, MPI_INFO_NULL, &request),
        "neighbor_alltoall_init");
  found.alltoall_init = matching(MPI_Start(&request));
  MPI_Request_free(&request);
  check(MPI_Neighbor_alltoallw_init(out, counts, offsets, types, in, counts, offsets, types, grid,
                                    MPI_INFO_NULL, &request),
        "neighbor_alltoallw_init");
  found.alltoallw_init = matching(MPI_Start(&request));
  MPI_Request_free(&request);
#else
  found.alltoall_init = found.alltoall;  // emulated by these
  found.alltoallw_init = found.alltoallw;
#endif
  MPI_Comm_free(&grid);
  return found;
}

const Matchings& matchings() {
  static const Matchings known = find_matchings();
  return known;
}

// Lays the blocks of a grid's neighbours so that they arrive in the right place, given how the MPI matches.
// The block for slot s (direction s of ours) belongs into slot s ^ 1 of the receiver.
void arrange(NeighborBlocks& blocks, std::span<const int> ranks, Matching matching) {
  if (matching == Matching::right) return;
  if (matching == Matching::unknown)
    throw Unsupported("neighbor_alltoall",
                      "this MPI mixes up messages between the same two neighbours of a grid");
  const NeighborBlocks before = {.send_counts = blocks.send_counts,
                                 .recv_counts = {},
                                 .send_at = blocks.send_at,
                                 .recv_at = {},
                                 .send_types = blocks.send_types,
                                 .recv_types = {},
                                 .large = {}};
  for (std::size_t first = 0; first < ranks.size(); ++first) {
    if (ranks[first] == MPI_PROC_NULL ||
        std::ranges::find(ranks, ranks[first]) != ranks.begin() + static_cast<std::ptrdiff_t>(first))
      continue;
    std::vector<std::size_t> sent;  // our slots to this rank, and the slots there that receive from us
    std::vector<std::size_t> received;
    for (std::size_t s = 0; s < ranks.size(); ++s) {
      if (ranks[s] != ranks[first]) continue;
      sent.push_back(s);
      received.push_back(s ^ 1U);
    }
    std::ranges::sort(received);
    if (matching == Matching::reversed) std::ranges::reverse(received);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      blocks.send_counts[sent[i]] = before.send_counts[received[i] ^ 1U];
      blocks.send_at[sent[i]] = before.send_at[received[i] ^ 1U];
      blocks.send_types[sent[i]] = before.send_types[received[i] ^ 1U];
    }
  }
}

void add_block(const void* data, MPI_Count count, MPI_Datatype type, std::vector<int>& counts,
               std::vector<MPI_Aint>& at, std::vector<MPI_Datatype>& types, std::vector<Datatype>& large) {
  MPI_Aint address = 0;
  MPI_Get_address(data, &address);
  at.push_back(address);
  if (count <= large_limit) {
    counts.push_back(static_cast<int>(count));
    types.push_back(type);
  } else {
    large.push_back(Datatype::contiguous_of(count, type));
    counts.push_back(1);
    types.push_back(large.back().native());
  }
}

MPI_Aint extent_of(MPI_Datatype type) {
  MPI_Aint lower = 0;
  MPI_Aint extent = 0;
  check(MPI_Type_get_extent(type, &lower, &extent), "neighbor");
  return extent;
}

}  // namespace

MPI_Count block_count(MPI_Count count, std::size_t blocks, const char* verb, MPI_Comm comm) {
  if (blocks == 0) return 0;
  if (count % static_cast<MPI_Count>(blocks) != 0)
    fail(Errc::count, verb, {.comm = comm},
         fmt::format("{} elements cannot be split into {} equal blocks, one for each neighbour", count,
                     blocks));
  return count / static_cast<MPI_Count>(blocks);
}

}  // namespace detail

using detail::NeighborCall;

Comm Neighborhood::internal(const char* verb) const { return Comm::view(detail::internal_of(state(verb))); }

void Neighborhood::require_values(std::size_t values, const char* verb) const {
  const MPI_Comm comm = state(verb).comm;
  if (values != destinations_.size())
    detail::fail(Errc::count, verb, {.comm = comm},
                 fmt::format("{} values for {} destinations", values, destinations_.size()));
}

Request<void> Neighborhood::request_of(MPI_Request native, std::shared_ptr<Blocks> keep,
                                       const char* verb) const {
  auto owned = std::make_unique<detail::Keeps<std::shared_ptr<Blocks>>>(std::move(keep));
  return Request<void>(detail::RequestCore(native, std::move(owned), verb, detail::Dropped::wait));
}

// ---- The same datatype for all.

namespace {

struct SameSizes {
  MPI_Count out;
  MPI_Count in;
};

SameSizes same_sizes(NeighborCall call, ConstBuffer out, Buffer in, std::size_t sources,
                     std::size_t destinations, const char* verb, MPI_Comm comm) {
  const SameSizes sizes{
      call == NeighborCall::allgather ? out.count : detail::block_count(out.count, destinations, verb, comm),
      detail::block_count(in.count, sources, verb, comm)};
  if (sources != 0 && destinations != 0 && out.type == in.type && sizes.out != sizes.in)
    detail::fail(Errc::count, verb, {.comm = comm},
                 fmt::format("{} elements go to each neighbour, but there is room for {} from each",
                             sizes.out, sizes.in));
  return sizes;
}

}  // namespace

// Blocking forms are the nonblocking ones with a wait, on all ranks alike: some of them may have to poll for
// late receives, and MPI does not match blocking with nonblocking collectives.
void Neighborhood::call_same(NeighborCall call, ConstBuffer out, Buffer in, const char* verb) const {
  std::shared_ptr<Blocks> keep;
  const MPI_Request native = icall_same(call, out, in, keep, verb);
  detail::RequestCore(native, nullptr, verb, detail::Dropped::wait).wait();
}

MPI_Request Neighborhood::icall_same(NeighborCall call, ConstBuffer out, Buffer in,
                                     std::shared_ptr<Blocks>& keep, const char* verb) const {
  const detail::CommState& here = state(verb);
  if (call == NeighborCall::alltoall && twisted_ && detail::matchings().alltoall != detail::Matching::right) {
    keep = equal_blocks(out, in, verb);
    return icall_each(*keep, verb);
  }
  const auto [n, m] = same_sizes(call, out, in, sources_.size(), destinations_.size(), verb, here.comm);
  const auto nonblocking =
      call == NeighborCall::allgather ? &MPI_Ineighbor_allgather : &MPI_Ineighbor_alltoall;
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = detail::with_counts(
      n, out.type, m, in.type,
      [&](int sent, MPI_Datatype sent_type, int received, MPI_Datatype received_type) {
        return nonblocking(out.data, sent, sent_type, in.data, received, received_type, here.comm, &request);
      });
  detail::check(code, verb, {.comm = here.comm, .count = out.count, .type = out.type});
  return request;
}

Persistent Neighborhood::init_same(NeighborCall call, ConstBuffer out, Buffer in, const char* verb) const {
  const detail::CommState& here = state(verb);
  if (call == NeighborCall::alltoall && twisted_ &&
      detail::matchings().alltoall_init != detail::Matching::right)
    return init_each(equal_blocks(out, in, verb), verb);
  const auto [n, m] = same_sizes(call, out, in, sources_.size(), destinations_.size(), verb, here.comm);
#if MH_MPI_HAS_PERSISTENT_COLLECTIVES
  const auto init =
      call == NeighborCall::allgather ? &MPI_Neighbor_allgather_init : &MPI_Neighbor_alltoall_init;
  MPI_Request request = MPI_REQUEST_NULL;
  const int code =
      detail::with_counts(n, out.type, m, in.type,
                          [&](int sent, MPI_Datatype sent_type, int received, MPI_Datatype received_type) {
                            return init(out.data, sent, sent_type, in.data, received, received_type,
                                        here.comm, MPI_INFO_NULL, &request);
                          });
  detail::check(code, verb, {.comm = here.comm, .count = out.count, .type = out.type});
  return Persistent(request, verb);
#else
  const auto nonblocking =
      call == NeighborCall::allgather ? &MPI_Ineighbor_allgather : &MPI_Ineighbor_alltoall;
  const MPI_Comm comm = here.comm;
  return Persistent(
      [out, in, n, m, nonblocking, comm, verb] {
        MPI_Request request = MPI_REQUEST_NULL;
        const int code = detail::with_counts(
            n, out.type, m, in.type,
            [&](int sent, MPI_Datatype sent_type, int received, MPI_Datatype received_type) {
              return nonblocking(out.data, sent, sent_type, in.data, received, received_type, comm, &request);
            });
        detail::check(code, verb, {.comm = comm, .count = out.count, .type = out.type});
        return request;
      },
      verb);
#endif
}

// ---- A block for each.

std::shared_ptr<detail::NeighborBlocks> Neighborhood::blocks_of(std::span<const ConstBuffer> out,
                                                                std::span<const Buffer> in,
                                                                const char* verb) const {
  const detail::CommState& here = state(verb);
  if (out.size() != destinations_.size() || in.size() != sources_.size())
    detail::fail(Errc::count, verb, {.comm = here.comm},
                 fmt::format("{} blocks to send for {} destinations, {} to receive for {} sources",
                             out.size(), destinations_.size(), in.size(), sources_.size()));
  auto blocks = std::make_shared<Blocks>();
  blocks->large.reserve(out.size() + in.size());
  for (const ConstBuffer& one : out)
    detail::add_block(one.data, one.count, one.type, blocks->send_counts, blocks->send_at, blocks->send_types,
                      blocks->large);
  for (const Buffer& one : in)
    detail::add_block(one.data, one.count, one.type, blocks->recv_counts, blocks->recv_at, blocks->recv_types,
                      blocks->large);
  return blocks;
}

namespace {

// Equal blocks of `count` elements, side by side.
template <class B, class Data>
std::vector<B> cut(Data* data, MPI_Count count, MPI_Datatype type, std::size_t blocks) {
  const MPI_Aint step = static_cast<MPI_Aint>(count) * detail::extent_of(type);
  std::vector<B> all;
  all.reserve(blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    // Nothing is added to a null pointer.
    const MPI_Aint offset = count == 0 ? 0 : static_cast<MPI_Aint>(i) * step;
    all.push_back(B{data + offset, count, type});
  }
  return all;
}

template <class B, class Data>
std::vector<B> cut(Data* data, MPI_Count total, std::span<const MPI_Count> counts, MPI_Count per_element,
                   MPI_Datatype type, std::size_t blocks, const char* verb, MPI_Comm comm) {
  MPI_Count sum = 0;
  for (const MPI_Count n : counts) {
    if (n < 0) detail::fail(Errc::count, verb, {.comm = comm}, fmt::format("a count of {} elements", n));
    sum += n * per_element;
  }
  if (counts.size() != blocks || sum > total)
    detail::fail(Errc::count, verb, {.comm = comm},
                 fmt::format("{} counts with a sum of {} for {} neighbours and {} elements", counts.size(),
                             sum / per_element, blocks, total / per_element));
  const MPI_Aint extent = detail::extent_of(type);
  std::vector<B> all;
  all.reserve(blocks);
  for (const MPI_Count n : counts) {
    all.push_back(B{data, n * per_element, type});
    if (n != 0) data += static_cast<MPI_Aint>(n * per_element) * extent;
  }
  return all;
}

const std::byte* bytes(const ConstBuffer& b) { return static_cast<const std::byte*>(b.data); }
std::byte* bytes(const Buffer& b) { return static_cast<std::byte*>(b.data); }

}  // namespace

std::shared_ptr<detail::NeighborBlocks> Neighborhood::equal_blocks(ConstBuffer out, Buffer in,
                                                                   const char* verb) const {
  const auto [n, m] = same_sizes(NeighborCall::alltoall, out, in, sources_.size(), destinations_.size(), verb,
                                 state(verb).comm);
  return blocks_of(cut<ConstBuffer>(bytes(out), n, out.type, destinations_.size()),
                   cut<Buffer>(bytes(in), m, in.type, sources_.size()), verb);
}

std::shared_ptr<detail::NeighborBlocks> Neighborhood::gather_blocks(ConstBuffer mine, Buffer all,
                                                                    std::span<const MPI_Count> counts,
                                                                    MPI_Count per_element,
                                                                    const char* verb) const {
  const std::vector<ConstBuffer> out(destinations_.size(), mine);
  return blocks_of(out,
                   cut<Buffer>(bytes(all), all.count, counts, per_element, all.type, sources_.size(), verb,
                               state(verb).comm),
                   verb);
}

std::shared_ptr<detail::NeighborBlocks> Neighborhood::ragged_blocks(
    ConstBuffer out, std::span<const MPI_Count> out_counts, Buffer in, std::span<const MPI_Count> in_counts,
    MPI_Count per_element_out, MPI_Count per_element_in, const char* verb) const {
  const MPI_Comm comm = state(verb).comm;
  return blocks_of(
      cut<ConstBuffer>(bytes(out), out.count, out_counts, per_element_out, out.type, destinations_.size(),
                       verb, comm),
      cut<Buffer>(bytes(in), in.count, in_counts, per_element_in, in.type, sources_.size(), verb, comm),
      verb);
}

void Neighborhood::call_each(Blocks& b, const char* verb) const {
  const MPI_Request native = icall_each(b, verb);
  detail::RequestCore(native, nullptr, verb, detail::Dropped::wait).wait();
}

MPI_Request Neighborhood::icall_each(Blocks& b, const char* verb) const {
  const detail::CommState& here = state(verb);
  if (twisted_) detail::arrange(b, destinations_, detail::matchings().alltoallw);
  MPI_Request request = MPI_REQUEST_NULL;
  detail::check(MPI_Ineighbor_alltoallw(MPI_BOTTOM, b.send_counts.data(), b.send_at.data(),
                                        b.send_types.data(), MPI_BOTTOM, b.recv_counts.data(),
                                        b.recv_at.data(), b.recv_types.data(), here.comm, &request),
                verb, {.comm = here.comm});
  return request;
}

Persistent Neighborhood::init_each(std::shared_ptr<Blocks> blocks, const char* verb) const {
  const detail::CommState& here = state(verb);
  Blocks& b = *blocks;
  if (twisted_) detail::arrange(b, destinations_, detail::matchings().alltoallw_init);
#if MH_MPI_HAS_PERSISTENT_COLLECTIVES
  MPI_Request request = MPI_REQUEST_NULL;
  detail::check(
      MPI_Neighbor_alltoallw_init(MPI_BOTTOM, b.send_counts.data(), b.send_at.data(), b.send_types.data(),
                                  MPI_BOTTOM, b.recv_counts.data(), b.recv_at.data(), b.recv_types.data(),
                                  here.comm, MPI_INFO_NULL, &request),
      verb, {.comm = here.comm});
  return Persistent(request, std::move(blocks), verb);
#else
  return Persistent(
      [blocks = std::move(blocks), comm = here.comm, verb] {
        const Blocks& each = *blocks;
        MPI_Request request = MPI_REQUEST_NULL;
        detail::check(MPI_Ineighbor_alltoallw(MPI_BOTTOM, each.send_counts.data(), each.send_at.data(),
                                              each.send_types.data(), MPI_BOTTOM, each.recv_counts.data(),
                                              each.recv_at.data(), each.recv_types.data(), comm, &request),
                      verb, {.comm = comm});
        return request;
      },
      verb);
#endif
}

void Neighborhood::neighbor_alltoallw(std::span<const ConstBuffer> out, std::span<const Buffer> in) const {
  call_each(*blocks_of(out, in, "neighbor_alltoallw"), "neighbor_alltoallw");
}

Request<void> Neighborhood::ineighbor_alltoallw(std::span<const ConstBuffer> out,
                                                std::span<const Buffer> in) const {
  auto blocks = blocks_of(out, in, "ineighbor_alltoallw");
  const MPI_Request native = icall_each(*blocks, "ineighbor_alltoallw");
  return request_of(native, std::move(blocks), "ineighbor_alltoallw");
}

Persistent Neighborhood::neighbor_alltoallw_init(std::span<const ConstBuffer> out,
                                                 std::span<const Buffer> in) const {
  return init_each(blocks_of(out, in, "neighbor_alltoallw_init"), "neighbor_alltoallw_init");
}

}  // namespace manyhands::mpi
