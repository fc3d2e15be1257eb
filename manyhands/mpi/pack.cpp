#include "manyhands/mpi/pack.hpp"

#include <fmt/format.h>

#include <limits>

namespace manyhands::mpi::detail {
namespace {

constexpr const char* external = "external32";

int as_int(MPI_Count n, const char* verb) {
  if (n > std::numeric_limits<int>::max())
    fail(Errc::count, verb, {}, fmt::format("{} is more than MPI packs at once", n));
  return static_cast<int>(n);
}

// MPICH 4.0 ends the process for others.
void require_basic([[maybe_unused]] MPI_Datatype type, [[maybe_unused]] const char* verb) {
#if defined(MPICH_NUMVERSION)
  int integers = 0;
  int addresses = 0;
  int types = 0;
  int combiner = MPI_COMBINER_NAMED;
  check(MPI_Type_get_envelope(type, &integers, &addresses, &types, &combiner), verb);
  if (combiner != MPI_COMBINER_NAMED) throw Unsupported(verb, "MPICH has external32 of basic datatypes only");
#endif
}

}  // namespace

void pack_one(MPI_Comm comm, ConstBuffer data, std::vector<std::byte>& out) {
  const char* const verb = comm == MPI_COMM_NULL ? "pack_external" : "pack_native";
  require_active(verb);
  const int n = as_int(data.count, verb);
  if (n == 0) return;  // MPIs take no null pointer, as empty ranges have
  const std::size_t start = out.size();
  if (comm == MPI_COMM_NULL) {
    require_basic(data.type, verb);
    MPI_Aint size = 0;
    check(MPI_Pack_external_size(external, n, data.type, &size), verb);
    out.resize(start + static_cast<std::size_t>(size));
    MPI_Aint at = 0;
    check(MPI_Pack_external(external, data.data, n, data.type, out.data() + start, size, &at), verb,
          {.count = n, .type = data.type});
    out.resize(start + static_cast<std::size_t>(at));
    return;
  }
  int size = 0;
  check(MPI_Pack_size(n, data.type, comm, &size), verb, {.comm = comm});
  out.resize(start + static_cast<std::size_t>(size));
  int at = 0;
  check(MPI_Pack(data.data, n, data.type, out.data() + start, size, &at, comm), verb,
        {.comm = comm, .count = n, .type = data.type});
  out.resize(start + static_cast<std::size_t>(at));
}

void unpack_one(MPI_Comm comm, std::span<const std::byte> bytes, std::size_t& at, Buffer data) {
  const char* const verb = comm == MPI_COMM_NULL ? "unpack_external" : "unpack_native";
  require_active(verb);
  const int n = as_int(data.count, verb);
  if (n == 0) return;
  // Not every MPI looks whether there is enough.
  MPI_Aint needed = 0;
  if (comm == MPI_COMM_NULL) {
    require_basic(data.type, verb);
    check(MPI_Pack_external_size(external, n, data.type, &needed), verb);
  } else {
    MPI_Count size = 0;
    check(MPI_Type_size_x(data.type, &size), verb);
    needed = static_cast<MPI_Aint>(size * n);
  }
  if (static_cast<std::size_t>(needed) > bytes.size() - at)
    fail(Errc::truncate, verb, {.count = n, .type = data.type},
         fmt::format("{} bytes are left of {}, {} are needed", bytes.size() - at, bytes.size(), needed));
  if (comm == MPI_COMM_NULL) {
    auto place = static_cast<MPI_Aint>(at);
    check(MPI_Unpack_external(external, bytes.data(), static_cast<MPI_Aint>(bytes.size()), &place, data.data,
                              n, data.type),
          verb, {.count = n, .type = data.type});
    at = static_cast<std::size_t>(place);
    return;
  }
  int place = as_int(static_cast<MPI_Count>(at), verb);
  check(MPI_Unpack(bytes.data(), as_int(static_cast<MPI_Count>(bytes.size()), verb), &place, data.data, n,
                   data.type, comm),
        verb, {.comm = comm, .count = n, .type = data.type});
  at = static_cast<std::size_t>(place);
}

void require_end(std::span<const std::byte> bytes, std::size_t at, const char* verb) {
  if (at != bytes.size())
    fail(Errc::truncate, verb, {},
         fmt::format("{} of {} bytes are left over", bytes.size() - at, bytes.size()));
}

}  // namespace manyhands::mpi::detail
