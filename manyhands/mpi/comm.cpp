#include "manyhands/mpi/comm.hpp"

#include <array>
#include <cstdio>

namespace manyhands::mpi {
namespace {

void require_intra(MPI_Comm raw, const char* verb) {
  detail::require_active(verb);
  if (raw == MPI_COMM_NULL) detail::fail(Errc::comm, verb, {}, "the handle is MPI_COMM_NULL");
  int inter = 0;
  detail::check(MPI_Comm_test_inter(raw, &inter), verb);
  if (inter != 0)
    detail::fail(Errc::comm, verb, {.comm = raw}, "it is an intercommunicator: use mpi::Intercomm");
}

}  // namespace

Comm Comm::adopt(MPI_Comm raw) {
  require_intra(raw, "Comm::adopt");
  return Comm(raw, Ownership::owned);
}

Comm Comm::view(MPI_Comm raw) {
  require_intra(raw, "Comm::view");
  return Comm(raw, Ownership::viewed);
}

Comm Comm::dup(MPI_Comm raw) {
  require_intra(raw, "Comm::dup");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(MPI_Comm_dup(raw, &made), "Comm::dup", {.comm = raw});
  return Comm(made, Ownership::owned);
}

Comm Comm::dup() const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("dup").comm;
  detail::check(MPI_Comm_dup(from, &made), "dup", {.comm = from});
  return Comm(made, Ownership::owned);
}

Comm Comm::dup(const Info& info) const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("dup").comm;
  detail::check(MPI_Comm_dup_with_info(from, info.native(), &made), "dup", {.comm = from});
  return Comm(made, Ownership::owned);
}

Comm Comm::split(int color, const SplitOptions& options) const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("split").comm;
  if (color < 0 && color != undefined)
    detail::fail(Errc::arg, "split", {.comm = from},
                 "color " + std::to_string(color) +
                     ": colors are at least 0, or mpi::undefined for a rank that takes no part");
  detail::check(MPI_Comm_split(from, color, options.key, &made), "split", {.comm = from});
  return Comm(made, Ownership::owned);
}

Comm Comm::split_node(const SplitOptions& options) const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("split_node").comm;
  detail::check(MPI_Comm_split_type(from, MPI_COMM_TYPE_SHARED, options.key, MPI_INFO_NULL, &made),
                "split_node", {.comm = from});
  return Comm(made, Ownership::owned);
}

std::string_view name_of(Hardware level) noexcept {
  static constexpr std::array<std::string_view, 8> names{"node",     "package",  "numa", "l3_cache",
                                                         "l2_cache", "l1_cache", "core", "thread"};
  return names[static_cast<std::size_t>(level)];
}

Comm Comm::split_hardware(Hardware level, const SplitOptions& options) const {
  if (level == Hardware::node) return split_node(options);
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("split_hardware").comm;
#if defined(OMPI_MAJOR_VERSION)
  static constexpr std::array<int, 8> types{
      MPI_COMM_TYPE_SHARED,   OMPI_COMM_TYPE_SOCKET,  OMPI_COMM_TYPE_NUMA, OMPI_COMM_TYPE_L3CACHE,
      OMPI_COMM_TYPE_L2CACHE, OMPI_COMM_TYPE_L1CACHE, OMPI_COMM_TYPE_CORE, OMPI_COMM_TYPE_HWTHREAD};
  const int code =
      MPI_Comm_split_type(from, types[static_cast<std::size_t>(level)], options.key, MPI_INFO_NULL, &made);
#elif defined(MPI_COMM_TYPE_HW_GUIDED) || MPI_VERSION >= 4
  static constexpr std::array<const char*, 8> resources{"machine", "package", "numanode", "l3cache",
                                                        "l2cache", "l1cache", "core",     "hwthread"};
  const Info info{{"mpi_hw_resource_type", resources[static_cast<std::size_t>(level)]}};
  const int code = MPI_Comm_split_type(from, MPI_COMM_TYPE_HW_GUIDED, options.key, info.native(), &made);
#else
  throw Unsupported("split_hardware", "this MPI tells nodes apart, and nothing within them");
#endif
  detail::check(code, "split_hardware", {.comm = from});
  if (made == MPI_COMM_NULL) return {};
  return Comm(made, Ownership::owned);
}

Comm Comm::create(const Group& group) const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("create").comm;
  detail::check(MPI_Comm_create(from, group.native(), &made), "create", {.comm = from});
  return Comm(made, Ownership::owned);
}

Comm Comm::create_group(const Group& group, int tag) const {
  MPI_Comm made = MPI_COMM_NULL;
  const MPI_Comm from = state("create_group").comm;
  detail::check(MPI_Comm_create_group(from, group.native(), tag, &made), "create_group",
                {.comm = from, .tag = tag});
  return Comm(made, Ownership::owned);
}

void Comm::print(std::string_view line) const {
  detail::CommState& here = state("print");
  const MPI_Comm internal = detail::internal_of(here);
  const int mine = static_cast<int>(line.size());
  if (here.rank != 0) {
    detail::check(MPI_Send(line.data(), mine, MPI_CHAR, 0, 0, internal), "print");
    return;
  }
  const auto put = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    if (text.empty() || text.back() != '\n') std::fputc('\n', stdout);
  };
  put(line);
  std::string text;
  for (int rank = 1; rank < here.size; ++rank) {
    MPI_Status status{};
    int length = 0;
    detail::check(MPI_Probe(rank, 0, internal, &status), "print");
    MPI_Get_count(&status, MPI_CHAR, &length);
    text.resize(static_cast<std::size_t>(length));
    detail::check(MPI_Recv(text.data(), length, MPI_CHAR, rank, 0, internal, MPI_STATUS_IGNORE), "print");
    put(text);
  }
  std::fflush(stdout);
}

const Comm& world() {
  detail::require_active("world");
  static const Comm known = Comm::view(MPI_COMM_WORLD);
  return known;
}

const Comm& self() {
  detail::require_active("self");
  static const Comm known = Comm::view(MPI_COMM_SELF);
  return known;
}

}  // namespace manyhands::mpi
