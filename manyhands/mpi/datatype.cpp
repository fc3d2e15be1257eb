#include "manyhands/mpi/datatype.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <limits>
#include <vector>

namespace manyhands::mpi {
namespace {

void require(MPI_Datatype type, const char* verb) {
  detail::require_active(verb);
  if (type == MPI_DATATYPE_NULL)
    detail::fail(Errc::type, verb, {}, "the datatype is empty: none, or moved from");
}

MPI_Datatype committed(MPI_Datatype type) {
  detail::check(MPI_Type_commit(&type), "Datatype");
  return type;
}

}  // namespace

Datatype& Datatype::operator=(Datatype&& other) noexcept {
  if (this != &other) {
    this->~Datatype();
    type_ = std::exchange(other.type_, MPI_DATATYPE_NULL);
    owned_ = other.owned_;
  }
  return *this;
}

Datatype::~Datatype() {
  if (owned_ && type_ != MPI_DATATYPE_NULL && is_active()) MPI_Type_free(&type_);
}

Datatype Datatype::contiguous_of(MPI_Count count, MPI_Datatype of) {
  constexpr MPI_Count chunk = 1 << 30;
  require(of, "Datatype::contiguous");
  if (count < 0)
    detail::fail(Errc::count, "Datatype::contiguous", {},
                 "a number of elements below 0: " + std::to_string(count));
  MPI_Datatype type = MPI_DATATYPE_NULL;
  if (count <= std::numeric_limits<int>::max()) {
    detail::check(MPI_Type_contiguous(static_cast<int>(count), of, &type), "Datatype::contiguous");
    return Datatype(committed(type), true);
  }
  // Whole chunks, and the rest behind them.
  MPI_Aint lower = 0;
  MPI_Aint extent = 0;
  detail::check(MPI_Type_get_extent(of, &lower, &extent), "Datatype::contiguous");
  MPI_Datatype one_chunk = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_contiguous(static_cast<int>(chunk), of, &one_chunk), "Datatype::contiguous");
  const int lengths[] = {static_cast<int>(count / chunk), static_cast<int>(count % chunk)};
  const MPI_Aint offsets[] = {0, static_cast<MPI_Aint>(count / chunk * chunk) * extent};
  const MPI_Datatype types[] = {one_chunk, of};
  const int made = MPI_Type_create_struct(2, lengths, offsets, types, &type);
  MPI_Type_free(&one_chunk);
  detail::check(made, "Datatype::contiguous");
  return Datatype(committed(type), true);
}

Datatype Datatype::make_vector(int count, int length, int stride, MPI_Datatype of) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_vector(count, length, stride, of, &type), "Datatype::vector", {.count = count});
  return Datatype(committed(type), true);
}

Datatype Datatype::make_hvector(int count, int length, MPI_Aint stride_bytes, MPI_Datatype of) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_create_hvector(count, length, stride_bytes, of, &type), "Datatype::hvector",
                {.count = count});
  return Datatype(committed(type), true);
}

Datatype Datatype::make_indexed(std::span<const int> lengths, std::span<const int> starts, MPI_Datatype of) {
  if (lengths.size() != starts.size())
    detail::fail(
        Errc::arg, "Datatype::indexed", {},
        std::to_string(lengths.size()) + " lengths, but " + std::to_string(starts.size()) + " starts");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_indexed(static_cast<int>(lengths.size()), lengths.data(), starts.data(), of, &type),
                "Datatype::indexed");
  return Datatype(committed(type), true);
}

Datatype Datatype::make_indexed_block(int length, std::span<const int> starts, MPI_Datatype of) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(
      MPI_Type_create_indexed_block(static_cast<int>(starts.size()), length, starts.data(), of, &type),
      "Datatype::indexed_block");
  return Datatype(committed(type), true);
}

Datatype Datatype::make_subarray(std::span<const int> full_shape, std::span<const int> shape,
                                 std::span<const int> starts, Order order, MPI_Datatype of) {
  if (shape.size() != full_shape.size() || starts.size() != full_shape.size())
    detail::fail(Errc::dims, "Datatype::subarray", {},
                 "full shape, shape and starts have different numbers of dimensions");
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 1 || starts[i] < 0 || starts[i] > full_shape[i] - shape[i])  // MPICH 4.0 does not look
      detail::fail(Errc::arg, "Datatype::subarray", {},
                   "dimension " + std::to_string(i) + ": " + std::to_string(shape[i]) + " elements from " +
                       std::to_string(starts[i]) + " on do not lie within " + std::to_string(full_shape[i]));
  }
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_create_subarray(static_cast<int>(shape.size()), full_shape.data(), shape.data(),
                                         starts.data(), static_cast<int>(order), of, &type),
                "Datatype::subarray");
  return Datatype(committed(type), true);
}

Datatype Datatype::make_darray(std::span<const int> full_shape, std::span<const Distribution> distributions,
                               std::span<const int> grid, int rank, Order order, MPI_Datatype of) {
  constexpr const char* verb = "Datatype::darray";
  if (distributions.size() != full_shape.size() || grid.size() != full_shape.size() || full_shape.empty())
    detail::fail(Errc::dims, verb, {},
                 "full shape, distributions and grid have different numbers of dimensions, or none");
  std::vector<int> kinds;
  std::vector<int> lengths;
  int ranks = 1;
  for (std::size_t i = 0; i < grid.size(); ++i) {  // the MPIs look at some of this only
    const auto [kind, length] = distributions[i];
    const auto require = [&](bool right, const char* what) {
      if (!right) detail::fail(Errc::arg, verb, {}, "dimension " + std::to_string(i) + ": " + what);
    };
    require(full_shape[i] >= 1 && grid[i] >= 1, "it has no elements, or no processes");
    require(kind != Distribution::Kind::none || grid[i] == 1,
            "it is not distributed, but has more than one process");
    require(length == Distribution::automatic || length >= 1, "blocks of less than one element");
    require(kind != Distribution::Kind::block || length == Distribution::automatic ||
                static_cast<long>(length) * grid[i] >= full_shape[i],
            "one block for each process does not hold all elements");
    kinds.push_back(static_cast<int>(kind));
    lengths.push_back(kind == Distribution::Kind::none ? MPI_DISTRIBUTE_DFLT_DARG : length);
    ranks *= grid[i];
  }
  if (rank < 0 || rank >= ranks)
    detail::fail(Errc::arg, verb, {},
                 "rank " + std::to_string(rank) + " of a grid of " + std::to_string(ranks) + " processes");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(
      MPI_Type_create_darray(ranks, rank, static_cast<int>(grid.size()), full_shape.data(), kinds.data(),
                             lengths.data(), grid.data(), static_cast<int>(order), of, &type),
      verb);
  return Datatype(committed(type), true);
}

Datatype Datatype::structure(std::span<const int> lengths, std::span<const MPI_Aint> offsets,
                             std::span<const MPI_Datatype> types) {
  if (lengths.size() != offsets.size() || lengths.size() != types.size())
    detail::fail(Errc::arg, "Datatype::structure", {}, "different numbers of lengths, offsets and types");
  detail::require_active("Datatype::structure");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_create_struct(static_cast<int>(lengths.size()), lengths.data(), offsets.data(),
                                       types.data(), &type),
                "Datatype::structure");
  return Datatype(committed(type), true);
}

Datatype Datatype::resized(MPI_Aint lower_bound, MPI_Aint extent) const {
  require(type_, "Datatype::resized");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_create_resized(type_, lower_bound, extent, &type), "Datatype::resized");
  return Datatype(committed(type), true);
}

Datatype Datatype::dup() const {
  require(type_, "Datatype::dup");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  detail::check(MPI_Type_dup(type_, &type), "Datatype::dup");
  return Datatype(type, true);
}

MPI_Count Datatype::size() const {
  require(type_, "Datatype::size");
  MPI_Count bytes = 0;
  detail::check(MPI_Type_size_x(type_, &bytes), "Datatype::size");
  return bytes;
}

MPI_Count Datatype::extent() const {
  require(type_, "Datatype::extent");
  MPI_Count lower = 0;
  MPI_Count bytes = 0;
  detail::check(MPI_Type_get_extent_x(type_, &lower, &bytes), "Datatype::extent");
  return bytes;
}

MPI_Count Datatype::lower_bound() const {
  require(type_, "Datatype::lower_bound");
  MPI_Count lower = 0;
  MPI_Count bytes = 0;
  detail::check(MPI_Type_get_extent_x(type_, &lower, &bytes), "Datatype::lower_bound");
  return lower;
}

MPI_Count Datatype::true_extent() const {
  require(type_, "Datatype::true_extent");
  MPI_Count lower = 0;
  MPI_Count bytes = 0;
  detail::check(MPI_Type_get_true_extent_x(type_, &lower, &bytes), "Datatype::true_extent");
  return bytes;
}

MPI_Count Datatype::true_lower_bound() const {
  require(type_, "Datatype::true_lower_bound");
  MPI_Count lower = 0;
  MPI_Count bytes = 0;
  detail::check(MPI_Type_get_true_extent_x(type_, &lower, &bytes), "Datatype::true_lower_bound");
  return lower;
}

std::string Datatype::name() const {
  require(type_, "Datatype::name");
  char text[MPI_MAX_OBJECT_NAME];
  int length = 0;
  detail::check(MPI_Type_get_name(type_, text, &length), "Datatype::name");
  return {text, static_cast<std::size_t>(length)};
}

void Datatype::set_name(const std::string& name) {
  require(type_, "Datatype::set_name");
  detail::check(MPI_Type_set_name(type_, name.c_str()), "Datatype::set_name");
}

namespace detail {

void free_at_finalize(MPI_Datatype type) {
  at_finalize([type]() mutable { MPI_Type_free(&type); });
}

MPI_Datatype make_bytes_type(std::size_t size) {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  check(MPI_Type_contiguous(static_cast<int>(size), MPI_BYTE, &type), "datatype");
  free_at_finalize(committed(type));
  return type;
}

MPI_Datatype make_struct_type(std::span<const int> lengths, std::span<const MPI_Aint> offsets,
                              std::span<const MPI_Datatype> types, std::size_t extent, const char* name) {
  MPI_Datatype packed = MPI_DATATYPE_NULL;
  check(MPI_Type_create_struct(static_cast<int>(lengths.size()), lengths.data(), offsets.data(), types.data(),
                               &packed),
        "datatype_of");
  MPI_Datatype type = MPI_DATATYPE_NULL;
  const int resized = MPI_Type_create_resized(packed, 0, static_cast<MPI_Aint>(extent), &type);
  MPI_Type_free(&packed);
  check(resized, "datatype_of");
  type = committed(type);
  int status = 0;
  char* const plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string text = status == 0 ? plain : name;
  std::free(plain);
  text.resize(std::min(text.size(), std::size_t{MPI_MAX_OBJECT_NAME - 1}));
  MPI_Type_set_name(type, text.c_str());
  free_at_finalize(type);
  return type;
}

}  // namespace detail
}  // namespace manyhands::mpi
