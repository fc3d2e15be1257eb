#include "manyhands/mpi/collective_calls.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "manyhands/mpi/large.hpp"
#include "manyhands/mpi/ragged.hpp"

#if MH_MPI_HAS_PERSISTENT_COLLECTIVES
#define MH_INIT(function) (&function)
#else
#define MH_INIT(function) nullptr
#endif

namespace manyhands::mpi::detail {
namespace {

// One collective of MPI in its three forms.
template <class... A>
int start(Launch& launch, int (*blocking)(A...),
          std::type_identity_t<int (*)(A..., MPI_Request*)> nonblocking,
          std::type_identity_t<int (*)(A..., MPI_Info, MPI_Request*)> init, std::type_identity_t<A>... args) {
  switch (launch.how) {
    // Not the nonblocking form while late receives wait: the other ranks would be in the blocking one, which
    // MPI does not match with it (MPI 3.1, 5.12).
    case How::blocking:
      return blocking(args...);
    case How::nonblocking:
      return nonblocking(args..., &launch.request);
    case How::persistent:
      return init == nullptr ? MPI_ERR_UNSUPPORTED_OPERATION : init(args..., MPI_INFO_NULL, &launch.request);
  }
  return MPI_ERR_INTERN;
}

// Counts and offsets as MPI wants them, or null if one of them is too large.
struct Ints {
  std::vector<int> counts;
  std::vector<int> offsets;
  bool fit = true;
};

Ints to_ints(Parts parts) {
  Ints made;
  MPI_Count at = 0;
  for (std::size_t i = 0; i < parts.counts.size(); ++i) {
    const MPI_Count offset = parts.offsets.empty() ? at : parts.offsets[i];
    made.fit = made.fit && parts.counts[i] <= large_limit && offset <= large_limit;
    made.counts.push_back(static_cast<int>(parts.counts[i]));
    made.offsets.push_back(static_cast<int>(offset));
    at += parts.counts[i];
  }
  return made;
}

// The arguments of alltoallw for one side: element i is one datatype with its offset inside.
class WideParts {
 public:
  WideParts(Launch& launch, int ranks)
      : launch_(launch),
        counts_(launch.ints.emplace_back(static_cast<std::size_t>(ranks), 0)),
        zeros_(launch.ints.emplace_back(static_cast<std::size_t>(ranks), 0)),
        types_(launch.types.emplace_back(static_cast<std::size_t>(ranks), MPI_BYTE)) {}

  void set(int rank, MPI_Count count, MPI_Datatype type, MPI_Count offset) {
    if (count == 0) return;
    MPI_Aint lower = 0;
    MPI_Aint extent = 0;
    MPI_Type_get_extent(type, &lower, &extent);
    place(rank, count, type, static_cast<MPI_Aint>(offset) * extent);
  }
  void set_all(Parts parts, MPI_Datatype type) {
    MPI_Count at = 0;
    for (std::size_t i = 0; i < parts.counts.size(); ++i) {
      set(static_cast<int>(i), parts.counts[i], type, parts.offsets.empty() ? at : parts.offsets[i]);
      at += parts.counts[i];
    }
  }
  void set_placed(int rank, const void* data, MPI_Count count, MPI_Datatype type) {
    if (count == 0) return;
    MPI_Aint address = 0;
    MPI_Get_address(data, &address);
    place(rank, count, type, address);
  }
  void clear(int rank) { counts_[static_cast<std::size_t>(rank)] = 0; }
  const int* counts() const { return counts_.data(); }
  const int* offsets() const { return zeros_.data(); }
  const MPI_Datatype* types() const { return types_.data(); }

 private:
  void place(int rank, MPI_Count count, MPI_Datatype type, MPI_Aint at) {
    const int one = 1;
    const MPI_Datatype native = launch_.made.emplace_back(Datatype::contiguous_of(count, type)).native();
    counts_[static_cast<std::size_t>(rank)] = 1;
    types_[static_cast<std::size_t>(rank)] =
        launch_.made.emplace_back(Datatype::structure({&one, 1}, {&at, 1}, {&native, 1})).native();
  }
  Launch& launch_;
  std::vector<int>& counts_;
  std::vector<int>& zeros_;
  std::vector<MPI_Datatype>& types_;
};

int wide(CommState& state, const void* send, const WideParts& from, void* recv, const WideParts& to,
         Launch& launch) {
  return start(launch, &MPI_Alltoallw, &MPI_Ialltoallw, MH_INIT(MPI_Alltoallw_init), send, from.counts(),
               from.offsets(), from.types(), recv, to.counts(), to.offsets(), to.types(), state.comm);
}

void require_parts(CommState& state, const char* verb, Parts parts) {
  const auto ranks = static_cast<std::size_t>(state.peers);
  if (parts.counts.size() == ranks && (parts.offsets.empty() || parts.offsets.size() == ranks)) return;
  fail(Errc::count, verb, {.comm = state.comm},
       fmt::format("{} counts and {} offsets were given for {} ranks", parts.counts.size(),
                   parts.offsets.size(), ranks));
}

[[noreturn]] void fail_narrow(const char* verb, const About& about) {
  fail(Errc::count, verb, about,
       "counts or offsets beyond 2^31 elements: say .large = true in Counts on all ranks, or use the form by "
       "value");
}

// Makes the requests of `one` part of `whole`.
void join(Launch& whole, const Launch& one) {
  if (one.request == MPI_REQUEST_NULL) return;
  if (whole.request == MPI_REQUEST_NULL) {
    whole.request = one.request;
  } else {
    whole.further.push_back(one.request);
  }
  whole.further.insert(whole.further.end(), one.further.begin(), one.further.end());
}

// A reduction in pieces that MPI can count; the pieces are operations of their own, in order.
template <class Call>
int in_pieces(const ConstBuffer& send, const Buffer& recv, Launch& launch, Call call) {
  const MPI_Count count = is_in_place(send) ? recv.count : send.count;
  if (count <= large_limit) [[likely]]
    return call(send.data, recv.data, static_cast<int>(count), launch);
  MPI_Aint lower = 0;
  MPI_Aint extent = 0;
  MPI_Type_get_extent(recv.type, &lower, &extent);
  for (MPI_Count at = 0; at < count; at += large_limit) {
    const auto piece = static_cast<int>(std::min(large_limit, count - at));
    Launch one(launch.how);
    const MPI_Aint skip = static_cast<MPI_Aint>(at) * extent;
    const void* const from =
        is_in_place(send) || send.data == nullptr ? send.data : static_cast<const char*>(send.data) + skip;
    void* const to = recv.data == nullptr ? nullptr : static_cast<char*>(recv.data) + skip;
    if (const int code = call(from, to, piece, one); code != MPI_SUCCESS) return code;
    join(launch, one);
  }
  return MPI_SUCCESS;
}

}  // namespace

void require_within(CommState& state, const char* verb, Parts parts, MPI_Count size) {
  MPI_Count at = 0;
  for (std::size_t i = 0; i < parts.counts.size(); ++i) {
    const MPI_Count count = parts.counts[i];
    const MPI_Count offset = i < parts.offsets.size() ? parts.offsets[i] : at;
    if (count < 0 || (count > 0 && (offset < 0 || offset > size - count)))
      fail(Errc::count, verb, {.comm = state.comm},
           fmt::format("the part of rank {} is {} elements from {} on, in memory of {}", i, count, offset,
                       size));
    at = offset + count;
  }
}

void require_alike(CommState& state, const char* verb, const ConstBuffer& send, MPI_Count count) {
  if (is_in_place(send) || send.count == count) return;
  fail(Errc::count, verb, {.comm = state.comm},
       fmt::format("{} elements are given, and there is memory for {}: it must be as many", send.count,
                   count));
}

void require_total(std::span<const MPI_Count> counts, std::size_t total) {
  MPI_Count sum = 0;
  bool negative = false;
  for (const MPI_Count count : counts) {
    negative = negative || count < 0;
    sum += count;
  }
  if (negative || sum != static_cast<MPI_Count>(total))
    fail(Errc::count, "Ragged", {},
         fmt::format("{} parts of together {} elements{} were asked for, of {} values", counts.size(), sum,
                     negative ? ", some of a negative number," : "", total));
}

const bool checks_communicate = [] {
  const char* const value = std::getenv("MANYHANDS_CHECK");
  return value != nullptr && std::string_view(value).find("comm") != std::string_view::npos;
}();

void compare_notes(CommState& state, const char* operation, int root, MPI_Count bytes) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char* c = operation; *c != 0; ++c) hash = (hash ^ static_cast<unsigned char>(*c)) * 16777619U;
  const std::int64_t mine[] = {
      static_cast<std::int64_t>(hash), -static_cast<std::int64_t>(hash), root, -root, bytes, -bytes};
  std::int64_t least[6];
  check(MPI_Allreduce(mine, least, 6, MPI_INT64_T, MPI_MIN, state.comm), "check");
  const auto differ = [&](int i) { return least[i] != -least[i + 1]; };
  if (differ(0))
    fail(Errc::other, operation, {.comm = state.comm},
         "the ranks are in different collectives at the same time");
  if (differ(2))
    fail(Errc::root, operation, {.comm = state.comm, .root = root},
         fmt::format("the ranks name different roots, from {} to {}", least[2], -least[3]));
  if (differ(4))
    fail(Errc::count, operation, {.comm = state.comm},
         fmt::format("the ranks name different sizes, from {} to {} bytes (here {})", least[4], -least[5],
                     bytes));
}

void barrier(CommState& state, Launch& launch) {
  check(start(launch, &MPI_Barrier, &MPI_Ibarrier, MH_INIT(MPI_Barrier_init), state.comm), "barrier",
        {.comm = state.comm});
}

void bcast(CommState& state, const Buffer& data, int root, Launch& launch) {
  check(with_count(data.count, data.type,
                   [&](int n, MPI_Datatype type) {
                     return start(launch, &MPI_Bcast, &MPI_Ibcast, MH_INIT(MPI_Bcast_init), data.data, n,
                                  type, root, state.comm);
                   }),
        "bcast", {.comm = state.comm, .root = root, .count = data.count, .type = data.type});
}

void gather(CommState& state, const ConstBuffer& send, const Buffer& recv, int root, Launch& launch) {
  check(with_counts(send.count, send.type, recv.count, recv.type,
                    [&](int n, MPI_Datatype type, int m, MPI_Datatype other) {
                      return start(launch, &MPI_Gather, &MPI_Igather, MH_INIT(MPI_Gather_init), send.data, n,
                                   type, recv.data, m, other, root, state.comm);
                    }),
        "gather", {.comm = state.comm, .root = root, .count = send.count, .type = send.type});
}

void gatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, int root,
             Width width, Launch& launch) {
  const bool receives = state.rank == root;
  if (receives) require_parts(state, "gatherv", parts);
  Ints ints = to_ints(receives ? parts : Parts{});
  const About about{.comm = state.comm, .root = root, .count = send.count, .type = send.type};
  if (width == Width::wide) {
    WideParts from(launch, state.peers);
    WideParts to(launch, state.peers);
    if (!is_in_place(send)) from.set(root, send.count, send.type, 0);
    if (receives) to.set_all(parts, recv.type);
    if (receives && is_in_place(send)) to.clear(root);
    check(wide(state, is_in_place(send) ? nullptr : send.data, from, recv.data, to, launch), "gatherv",
          about);
    return;
  }
  if (!ints.fit || send.count > large_limit) fail_narrow("gatherv", about);
  const int* const counts = launch.keep(std::move(ints.counts));
  const int* const offsets = launch.keep(std::move(ints.offsets));
  check(
      start(launch, &MPI_Gatherv, &MPI_Igatherv, MH_INIT(MPI_Gatherv_init), send.data,
            static_cast<int>(send.count), send.type, recv.data, counts, offsets, recv.type, root, state.comm),
      "gatherv", about);
}

void scatter(CommState& state, const ConstBuffer& send, const Buffer& recv, int root, Launch& launch) {
  check(with_counts(send.count, send.type, recv.count, recv.type,
                    [&](int n, MPI_Datatype type, int m, MPI_Datatype other) {
                      return start(launch, &MPI_Scatter, &MPI_Iscatter, MH_INIT(MPI_Scatter_init), send.data,
                                   n, type, recv.data, m, other, root, state.comm);
                    }),
        "scatter", {.comm = state.comm, .root = root, .count = recv.count, .type = recv.type});
}

void scatterv(CommState& state, const ConstBuffer& send, Parts parts, const Buffer& recv, int root,
              Width width, Launch& launch) {
  const bool sends = state.rank == root;
  if (sends) require_parts(state, "scatterv", parts);
  Ints ints = to_ints(sends ? parts : Parts{});
  const About about{.comm = state.comm, .root = root, .count = recv.count, .type = recv.type};
  if (width == Width::wide) {
    WideParts from(launch, state.peers);
    WideParts to(launch, state.peers);
    const bool in_place = recv.data == MPI_IN_PLACE;
    if (sends) from.set_all(parts, send.type);
    if (sends && in_place) from.clear(root);
    if (!in_place) to.set(root, recv.count, recv.type, 0);
    check(wide(state, send.data, from, in_place ? nullptr : recv.data, to, launch), "scatterv", about);
    return;
  }
  if (!ints.fit || recv.count > large_limit) fail_narrow("scatterv", about);
  const int* const counts = launch.keep(std::move(ints.counts));
  const int* const offsets = launch.keep(std::move(ints.offsets));
  check(start(launch, &MPI_Scatterv, &MPI_Iscatterv, MH_INIT(MPI_Scatterv_init), send.data, counts, offsets,
              send.type, recv.data, static_cast<int>(recv.count), recv.type, root, state.comm),
        "scatterv", about);
}

void allgather(CommState& state, const ConstBuffer& send, const Buffer& recv, Launch& launch) {
  check(with_counts(send.count, send.type, recv.count, recv.type,
                    [&](int n, MPI_Datatype type, int m, MPI_Datatype other) {
                      return start(launch, &MPI_Allgather, &MPI_Iallgather, MH_INIT(MPI_Allgather_init),
                                   send.data, n, type, recv.data, m, other, state.comm);
                    }),
        "allgather", {.comm = state.comm, .count = send.count, .type = send.type});
}

void allgatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, Launch& launch) {
  require_parts(state, "allgatherv", parts);
  Ints ints = to_ints(parts);
  const About about{.comm = state.comm, .count = send.count, .type = send.type};
  if (ints.fit && send.count <= large_limit) [[likely]] {
    const int* const counts = launch.keep(std::move(ints.counts));
    void* into = recv.data;
    if (state.peers == 1 &&
        ints.offsets[0] != 0) {  // MPICH 4.0.2 does not look at the offset of a single rank
      MPI_Aint lower = 0;
      MPI_Aint extent = 0;
      MPI_Type_get_extent(recv.type, &lower, &extent);
      into = static_cast<char*>(into) + std::exchange(ints.offsets[0], 0) * extent;
    }
    const int* const offsets = launch.keep(std::move(ints.offsets));
    check(start(launch, &MPI_Allgatherv, &MPI_Iallgatherv, MH_INIT(MPI_Allgatherv_init), send.data,
                static_cast<int>(send.count), send.type, into, counts, offsets, recv.type, state.comm),
          "allgatherv", about);
    return;
  }
  WideParts from(launch, state.peers);
  WideParts to(launch, state.peers);
  const auto mine = static_cast<std::size_t>(state.rank);
  const bool in_place = is_in_place(send);
  // In place, what this rank gives lies in its part already; alltoallw has no such form for different types.
  MPI_Count offset = 0;
  if (in_place) {
    for (std::size_t i = 0; i < mine; ++i) offset += parts.counts[i];
    if (!parts.offsets.empty()) offset = parts.offsets[mine];
  }
  for (int rank = 0; rank < state.peers; ++rank) {
    if (in_place && rank == state.rank) continue;
    from.set(rank, in_place ? parts.counts[mine] : send.count, in_place ? recv.type : send.type, offset);
  }
  to.set_all(parts, recv.type);
  if (in_place) to.clear(state.rank);
  check(wide(state, in_place ? recv.data : send.data, from, recv.data, to, launch), "allgatherv", about);
}

void alltoall(CommState& state, const ConstBuffer& send, const Buffer& recv, Launch& launch) {
  check(with_counts(send.count, send.type, recv.count, recv.type,
                    [&](int n, MPI_Datatype type, int m, MPI_Datatype other) {
                      return start(launch, &MPI_Alltoall, &MPI_Ialltoall, MH_INIT(MPI_Alltoall_init),
                                   send.data, n, type, recv.data, m, other, state.comm);
                    }),
        "alltoall", {.comm = state.comm, .count = recv.count, .type = recv.type});
}

void alltoallv(CommState& state, const ConstBuffer& send, Parts send_parts, const Buffer& recv,
               Parts recv_parts, Width width, Launch& launch) {
  require_parts(state, "alltoallv", recv_parts);
  if (!is_in_place(send)) require_parts(state, "alltoallv", send_parts);
  Ints from = to_ints(is_in_place(send) ? recv_parts : send_parts);
  Ints to = to_ints(recv_parts);
  const About about{.comm = state.comm, .type = recv.type};
  if (width == Width::wide) {
    if (is_in_place(send)) fail_narrow("alltoallv", about);
    WideParts wide_from(launch, state.peers);
    WideParts wide_to(launch, state.peers);
    wide_from.set_all(send_parts, send.type);
    wide_to.set_all(recv_parts, recv.type);
    check(wide(state, send.data, wide_from, recv.data, wide_to, launch), "alltoallv", about);
    return;
  }
  if (!from.fit || !to.fit) fail_narrow("alltoallv", about);
  const int* const send_counts = launch.keep(std::move(from.counts));
  const int* const send_offsets = launch.keep(std::move(from.offsets));
  const int* const recv_counts = launch.keep(std::move(to.counts));
  const int* const recv_offsets = launch.keep(std::move(to.offsets));
  check(start(launch, &MPI_Alltoallv, &MPI_Ialltoallv, MH_INIT(MPI_Alltoallv_init), send.data, send_counts,
              send_offsets, send.type, recv.data, recv_counts, recv_offsets, recv.type, state.comm),
        "alltoallv", about);
}

void alltoallw(CommState& state, std::span<const ConstBuffer> send, std::span<const Buffer> recv,
               Launch& launch) {
  const auto ranks = static_cast<std::size_t>(state.peers);
  if (send.size() != ranks || recv.size() != ranks)
    fail(Errc::count, "alltoallw", {.comm = state.comm},
         fmt::format("{} buffers to send and {} to receive were given for {} ranks", send.size(), recv.size(),
                     ranks));
  // The buffers lie anywhere: their addresses go into the datatypes.
  WideParts from(launch, state.peers);
  WideParts to(launch, state.peers);
  for (int rank = 0; rank < state.peers; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    from.set_placed(rank, send[i].data, send[i].count, send[i].type);
    to.set_placed(rank, recv[i].data, recv[i].count, recv[i].type);
  }
  check(wide(state, MPI_BOTTOM, from, MPI_BOTTOM, to, launch), "alltoallw", {.comm = state.comm});
}

void reduce(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, int root,
            Launch& launch) {
  check(in_pieces(send, recv, launch,
                  [&](const void* from, void* to, int n, Launch& one) {
                    return start(one, &MPI_Reduce, &MPI_Ireduce, MH_INIT(MPI_Reduce_init), from, to, n,
                                 recv.type, op, root, state.comm);
                  }),
        "reduce", {.comm = state.comm, .root = root, .count = recv.count, .type = recv.type});
}

void allreduce(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch) {
  require_alike(state, "allreduce", send, recv.count);
  check(in_pieces(send, recv, launch,
                  [&](const void* from, void* to, int n, Launch& one) {
                    return start(one, &MPI_Allreduce, &MPI_Iallreduce, MH_INIT(MPI_Allreduce_init), from, to,
                                 n, recv.type, op, state.comm);
                  }),
        "allreduce", {.comm = state.comm, .count = recv.count, .type = recv.type});
}

void scan(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch) {
  require_alike(state, "scan", send, recv.count);
  check(in_pieces(send, recv, launch,
                  [&](const void* from, void* to, int n, Launch& one) {
                    return start(one, &MPI_Scan, &MPI_Iscan, MH_INIT(MPI_Scan_init), from, to, n, recv.type,
                                 op, state.comm);
                  }),
        "scan", {.comm = state.comm, .count = recv.count, .type = recv.type});
}

void exscan(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op, Launch& launch) {
  require_alike(state, "exscan", send, recv.count);
  check(in_pieces(send, recv, launch,
                  [&](const void* from, void* to, int n, Launch& one) {
                    return start(one, &MPI_Exscan, &MPI_Iexscan, MH_INIT(MPI_Exscan_init), from, to, n,
                                 recv.type, op, state.comm);
                  }),
        "exscan", {.comm = state.comm, .count = recv.count, .type = recv.type});
}

namespace {

// reduce_scatter with a reduction to each rank, of parts that MPI cannot count.
void reduce_each(CommState& state, const ConstBuffer& send, const Buffer& recv,
                 std::span<const MPI_Count> counts, MPI_Op op, Launch& launch) {
  if (is_in_place(send) && launch.how != How::blocking)
    fail(Errc::count, "reduce_scatter", {.comm = state.comm},
         "more than 2^31 elements per rank, in place and not blocking: give a send buffer");
  MPI_Aint lower = 0;
  MPI_Aint extent = 0;
  MPI_Type_get_extent(recv.type, &lower, &extent);
  const char* from = static_cast<const char*>(is_in_place(send) ? recv.data : send.data);
  for (int root = 0; root < state.size; ++root) {
    const MPI_Count count = counts[static_cast<std::size_t>(root)];
    // In place: a part is overwritten after it was reduced, since they go in order; rank 0's by itself.
    const bool onto_itself = is_in_place(send) && root == 0 && state.rank == 0;
    Launch one(launch.how);
    reduce(state, {onto_itself ? MPI_IN_PLACE : from, count, recv.type}, {recv.data, count, recv.type}, op,
           root, one);
    join(launch, one);
    from += static_cast<MPI_Aint>(count) * extent;
  }
}

}  // namespace

void reduce_scatter_block(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                          Launch& launch) {
  const About about{.comm = state.comm, .count = recv.count, .type = recv.type};
  // The whole lies in `recv` if it is in place.
  const MPI_Count count = is_in_place(send) ? recv.count / state.size : recv.count;
  require_alike(state, "reduce_scatter", send, recv.count * state.size);
  if (count > large_limit) {
    const std::vector<MPI_Count> counts(static_cast<std::size_t>(state.size), count);
    reduce_each(state, send, recv, counts, op, launch);
    return;
  }
  check(start(launch, &MPI_Reduce_scatter_block, &MPI_Ireduce_scatter_block,
              MH_INIT(MPI_Reduce_scatter_block_init), send.data, recv.data, static_cast<int>(count),
              recv.type, op, state.comm),
        "reduce_scatter", about);
}

void reduce_scatter(CommState& state, const ConstBuffer& send, const Buffer& recv,
                    std::span<const MPI_Count> counts, MPI_Op op, Launch& launch) {
  const About about{.comm = state.comm, .count = recv.count, .type = recv.type};
  require_parts(state, "reduce_scatter", {counts, {}});
  MPI_Count all = 0;
  for (const MPI_Count one : counts) all += one;
  require_alike(state, "reduce_scatter", send, all);
  if (std::ranges::any_of(counts, [](MPI_Count count) { return count > large_limit; })) {
    reduce_each(state, send, recv, counts, op, launch);
    return;
  }
  const int* const kept = launch.keep({counts.begin(), counts.end()});
  check(start(launch, &MPI_Reduce_scatter, &MPI_Ireduce_scatter, MH_INIT(MPI_Reduce_scatter_init), send.data,
              recv.data, kept, recv.type, op, state.comm),
        "reduce_scatter", about);
}

}  // namespace manyhands::mpi::detail
