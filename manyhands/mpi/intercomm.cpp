#include "manyhands/mpi/intercomm.hpp"

#include <fmt/format.h>

#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace {

void require_inter(MPI_Comm raw, const char* verb) {
  detail::require_active(verb);
  if (raw == MPI_COMM_NULL) detail::fail(Errc::comm, verb, {}, "the handle is MPI_COMM_NULL");
  int inter = 0;
  detail::check(MPI_Comm_test_inter(raw, &inter), verb);
  if (inter == 0) detail::fail(Errc::comm, verb, {.comm = raw}, "it has one group only: use mpi::Comm");
}

}  // namespace

Intercomm Intercomm::create(const Comm& local, int leader, const Comm& peer, int remote_leader, int tag) {
  detail::require_active("Intercomm::create");
  if (!local) detail::fail(Errc::comm, "Intercomm::create", {}, "the local communicator is empty");
  if (leader < 0 || leader >= local.size())
    detail::fail(Errc::rank, "Intercomm::create", {.comm = local.native()},
                 fmt::format("the leader {} is no rank of the local communicator", leader));
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Intercomm_create(local.native(), leader, peer.native(), remote_leader, tag, &made),
                "Intercomm::create", {.comm = local.native(), .dest = remote_leader, .tag = tag});
  return {made, Ownership::owned};
}

Intercomm Intercomm::create_from_groups(const Group& local, int leader, const Group& remote,
                                        int remote_leader, const std::string& tag, const Info& info) {
  constexpr const char* verb = "Intercomm::create_from_groups";
  detail::require_active(verb);
#if MH_MPI_HAS_SESSIONS
  for (const auto& [group, rank] : {std::pair(&local, leader), std::pair(&remote, remote_leader)}) {
    if (rank < 0 || rank >= group->size())
      detail::fail(Errc::rank, verb, {}, fmt::format("the leader {} is no rank of its group", rank));
  }
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Intercomm_create_from_groups(local.native(), leader, remote.native(), remote_leader,
                                                 tag.c_str(), info.native(), MPI_ERRORS_RETURN, &made),
                verb, {.subject = tag.c_str()});
  return {made, Ownership::owned};
#else
  static_cast<void>(local);
  static_cast<void>(leader);
  static_cast<void>(remote);
  static_cast<void>(remote_leader);
  static_cast<void>(tag);
  static_cast<void>(info);
  throw Unsupported(verb, "communicators from groups alone came with MPI 4; this MPI is older: use create()");
#endif
}

Intercomm Intercomm::adopt(MPI_Comm raw) {
  require_inter(raw, "Intercomm::adopt");
  return {raw, Ownership::owned};
}

Intercomm Intercomm::view(MPI_Comm raw) {
  require_inter(raw, "Intercomm::view");
  return {raw, Ownership::viewed};
}

Group Intercomm::remote_group() const {
  MPI_Group group = MPI_GROUP_NULL;
  detail::check(MPI_Comm_remote_group(state("remote_group").comm, &group), "remote_group");
  return Group::adopt(group);
}

Comm Intercomm::merge(bool high) const {
  const MPI_Comm from = state("merge").comm;
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Intercomm_merge(from, high ? 1 : 0, &made), "merge", {.comm = from});
  return Comm::adopt(made);
}

Intercomm Intercomm::dup() const {
  const MPI_Comm from = state("dup").comm;
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(from, &made), "dup", {.comm = from});
  return {made, Ownership::owned};
}

Intercomm Intercomm::split(int color, const SplitOptions& options) const {
  const MPI_Comm from = state("split").comm;
  if (color < 0 && color != undefined)
    detail::fail(Errc::arg, "split", {.comm = from},
                 fmt::format("color {}: colors are 0 or more, or mpi::undefined", color));
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_split(from, color, options.key, &made), "split", {.comm = from});
  if (made == MPI_COMM_NULL) return {};
  int others = 0;
  if (MPI_Comm_remote_size(made, &others) == MPI_SUCCESS && others == 0) {  // nobody there to talk to
    MPI_Comm_free(&made);
    return {};
  }
  return {made, Ownership::owned};
}

void Intercomm::disconnect() {
  MPI_Comm comm = state("disconnect").comm;
  MPI_Comm parent = MPI_COMM_NULL;
  MPI_Comm_get_parent(&parent);
  if (ownership_ == Ownership::viewed && comm != parent)
    detail::fail(Errc::comm, "disconnect", {.comm = comm}, "it is another's: only viewed here");
  state_ = nullptr;
  detail::check(MPI_Comm_disconnect(&comm), "disconnect");
}

void Intercomm::barrier() const {
  detail::launch_blocking([&](detail::Launch& launch) { detail::barrier(state("barrier"), launch); });
}

Request<void> Intercomm::ibarrier() const {
  return detail::launch_request("ibarrier",
                                [&](detail::Launch& launch) { detail::barrier(state("ibarrier"), launch); });
}

void Intercomm::alltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const {
  detail::launch_blocking(
      [&](detail::Launch& launch) { detail::alltoallw(state("alltoallw"), send, recv, launch); });
}

Request<void> Intercomm::ialltoallw(std::span<const ConstBuffer> send, std::span<const Buffer> recv) const {
  return detail::launch_request("ialltoallw", [&](detail::Launch& launch) {
    detail::alltoallw(state("ialltoallw"), send, recv, launch);
  });
}

namespace detail {

void require_inter_root(const CommState& state, const char* verb, int root) {
  if (root == root_here || root == proc_null || (root >= 0 && root < state.peers)) return;
  fail(Errc::root, verb, {.comm = state.comm, .root = root},
       fmt::format("the root is one of the {} ranks of the other group, mpi::root_here on the root itself, "
                   "mpi::proc_null in its group",
                   state.peers));
}

void require_inter_items(const CommState& state, const char* verb, std::size_t items) {
  if (items == static_cast<std::size_t>(state.peers)) return;
  fail(Errc::count, verb, {.comm = state.comm},
       fmt::format("{} items were given for the {} ranks of the other group: there must be one for each",
                   items, state.peers));
}

MPI_Count inter_part(const CommState& state, const char* verb, MPI_Count count) {
  if (state.peers > 0 && count % state.peers == 0) return count / state.peers;
  fail(Errc::count, verb, {.comm = state.comm},
       fmt::format("{} elements cannot be split over the {} ranks of the other group", count, state.peers));
}

namespace {

struct Ints {
  const int* counts;
  const int* offsets;
};

// Counts and offsets of the ranks of the other group as MPI wants them, kept by `launch`.
Ints to_ints(const CommState& state, const char* verb, Parts parts, Launch& launch) {
  const auto ranks = static_cast<std::size_t>(state.peers);
  if (parts.counts.size() != ranks || (!parts.offsets.empty() && parts.offsets.size() != ranks))
    fail(Errc::count, verb, {.comm = state.comm},
         fmt::format("{} counts and {} offsets were given for the {} ranks of the other group",
                     parts.counts.size(), parts.offsets.size(), ranks));
  std::vector<int> counts;
  std::vector<int> offsets;
  MPI_Count at = 0;
  for (std::size_t i = 0; i < ranks; ++i) {
    const MPI_Count offset = parts.offsets.empty() ? at : parts.offsets[i];
    if (parts.counts[i] > large_limit || offset > large_limit)
      fail(Errc::count, verb, {.comm = state.comm},
           "counts or offsets beyond 2^31 elements: use a datatype of many elements, or several calls");
    counts.push_back(static_cast<int>(parts.counts[i]));
    offsets.push_back(static_cast<int>(offset));
    at += parts.counts[i];
  }
  return {launch.keep(std::move(counts)), launch.keep(std::move(offsets))};
}

}  // namespace

void inter_bcast(CommState& state, const Buffer& data, int root, Launch& launch) {
#if defined(MPICH_NUMVERSION)
  // MPI_Ibcast of MPICH 4.0.2 gives wrong data between groups, without an error, unless the root is rank 0.
  if (launch.how == How::nonblocking) {
    const About about{.comm = state.comm, .root = root, .count = data.count, .type = data.type};
    const auto ranks = static_cast<std::size_t>(state.peers);
    const int* const zeros = launch.keep(std::vector<int>(ranks, 0));
    check(with_count(data.count, data.type,
                     [&](int n, MPI_Datatype type) {
                       std::vector<int> sent(ranks, root == root_here ? n : 0);
                       std::vector<int> received(ranks, 0);
                       if (root >= 0) received[static_cast<std::size_t>(root)] = n;
                       const int* const out = launch.keep(std::move(sent));
                       const int* const in = launch.keep(std::move(received));
                       const bool sends = root == root_here;
                       return MPI_Ialltoallv(sends ? data.data : nullptr, out, zeros, type,
                                             sends ? nullptr : data.data, in, zeros, type, state.comm,
                                             &launch.request);
                     }),
          "ibcast", about);
    return;
  }
#endif
  bcast(state, data, root, launch);
}

void inter_gatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, int root,
                   Launch& launch) {
  Ints in{};
  if (root == root_here) in = to_ints(state, "gatherv", parts, launch);
  check(with_count(send.count, send.type,
                   [&](int n, MPI_Datatype type) {
                     return launch.how == How::blocking
                                ? MPI_Gatherv(send.data, n, type, recv.data, in.counts, in.offsets, recv.type,
                                              root, state.comm)
                                : MPI_Igatherv(send.data, n, type, recv.data, in.counts, in.offsets,
                                               recv.type, root, state.comm, &launch.request);
                   }),
        "gatherv", {.comm = state.comm, .root = root, .count = send.count, .type = send.type});
}

void inter_scatterv(CommState& state, const ConstBuffer& send, Parts parts, const Buffer& recv, int root,
                    Launch& launch) {
  Ints out{};
  if (root == root_here) out = to_ints(state, "scatterv", parts, launch);
  check(with_count(recv.count, recv.type,
                   [&](int n, MPI_Datatype type) {
                     return launch.how == How::blocking
                                ? MPI_Scatterv(send.data, out.counts, out.offsets, send.type, recv.data, n,
                                               type, root, state.comm)
                                : MPI_Iscatterv(send.data, out.counts, out.offsets, send.type, recv.data, n,
                                                type, root, state.comm, &launch.request);
                   }),
        "scatterv", {.comm = state.comm, .root = root, .count = recv.count, .type = recv.type});
}

void inter_allgatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts,
                      Launch& launch) {
  const Ints in = to_ints(state, "allgatherv", parts, launch);
  check(with_count(send.count, send.type,
                   [&](int n, MPI_Datatype type) {
                     return launch.how == How::blocking
                                ? MPI_Allgatherv(send.data, n, type, recv.data, in.counts, in.offsets,
                                                 recv.type, state.comm)
                                : MPI_Iallgatherv(send.data, n, type, recv.data, in.counts, in.offsets,
                                                  recv.type, state.comm, &launch.request);
                   }),
        "allgatherv", {.comm = state.comm, .count = send.count, .type = send.type});
}

void inter_reduce_scatter(CommState& state, const ConstBuffer& send, const Buffer& recv,
                          std::span<const MPI_Count> counts, MPI_Op op, Launch& launch) {
  require_counts(state, "reduce_scatter", counts, send.count);
  std::vector<int> ints;
  for (const MPI_Count count : counts) {
    if (count > large_limit)
      fail(Errc::count, "reduce_scatter", {.comm = state.comm, .count = count},
           "more than 2^31 elements per rank: reduce in several calls");
    ints.push_back(static_cast<int>(count));
  }
  const int* const kept = launch.keep(std::move(ints));
  const int code =
      launch.how == How::blocking
          ? MPI_Reduce_scatter(send.data, recv.data, kept, recv.type, op, state.comm)
          : MPI_Ireduce_scatter(send.data, recv.data, kept, recv.type, op, state.comm, &launch.request);
  check(code, "reduce_scatter", {.comm = state.comm, .count = send.count, .type = recv.type});
}

}  // namespace detail
}  // namespace manyhands::mpi
