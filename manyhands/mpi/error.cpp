#include "manyhands/mpi/error.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "manyhands/mpi/lifetime.hpp"

namespace manyhands::mpi {
namespace {

struct ErrorClass {
  int native;
  Errc code;
  std::string_view name;
};

// clang-format off
const std::array<ErrorClass, 58> classes{{
    {MPI_ERR_OTHER, Errc::other, "other"}, {MPI_ERR_BUFFER, Errc::buffer, "buffer"}, {MPI_ERR_COUNT, Errc::count, "count"},
    {MPI_ERR_TYPE, Errc::type, "type"}, {MPI_ERR_TAG, Errc::tag, "tag"}, {MPI_ERR_COMM, Errc::comm, "comm"},
    {MPI_ERR_RANK, Errc::rank, "rank"}, {MPI_ERR_REQUEST, Errc::request, "request"}, {MPI_ERR_ROOT, Errc::root, "root"},
    {MPI_ERR_GROUP, Errc::group, "group"}, {MPI_ERR_OP, Errc::op, "op"}, {MPI_ERR_TOPOLOGY, Errc::topology, "topology"},
    {MPI_ERR_DIMS, Errc::dims, "dims"}, {MPI_ERR_ARG, Errc::arg, "arg"}, {MPI_ERR_UNKNOWN, Errc::unknown, "unknown"},
    {MPI_ERR_TRUNCATE, Errc::truncate, "truncate"}, {MPI_ERR_INTERN, Errc::intern, "intern"},
    {MPI_ERR_IN_STATUS, Errc::in_status, "in_status"}, {MPI_ERR_PENDING, Errc::pending, "pending"},
    {MPI_ERR_KEYVAL, Errc::keyval, "keyval"}, {MPI_ERR_NO_MEM, Errc::no_mem, "no_mem"}, {MPI_ERR_BASE, Errc::base, "base"},
    {MPI_ERR_INFO, Errc::info, "info"}, {MPI_ERR_INFO_KEY, Errc::info_key, "info_key"},
    {MPI_ERR_INFO_VALUE, Errc::info_value, "info_value"}, {MPI_ERR_INFO_NOKEY, Errc::info_nokey, "info_nokey"},
    {MPI_ERR_SPAWN, Errc::spawn, "spawn"}, {MPI_ERR_PORT, Errc::port, "port"}, {MPI_ERR_SERVICE, Errc::service, "service"},
    {MPI_ERR_NAME, Errc::name, "name"}, {MPI_ERR_WIN, Errc::win, "win"}, {MPI_ERR_SIZE, Errc::size, "size"},
    {MPI_ERR_DISP, Errc::disp, "disp"}, {MPI_ERR_ASSERT, Errc::assertion, "assert"},
    {MPI_ERR_LOCKTYPE, Errc::locktype, "locktype"}, {MPI_ERR_RMA_CONFLICT, Errc::rma_conflict, "rma_conflict"},
    {MPI_ERR_RMA_SYNC, Errc::rma_sync, "rma_sync"}, {MPI_ERR_RMA_RANGE, Errc::rma_range, "rma_range"},
    {MPI_ERR_RMA_ATTACH, Errc::rma_attach, "rma_attach"}, {MPI_ERR_RMA_SHARED, Errc::rma_shared, "rma_shared"},
    {MPI_ERR_RMA_FLAVOR, Errc::rma_flavor, "rma_flavor"}, {MPI_ERR_FILE, Errc::file, "file"},
    {MPI_ERR_FILE_EXISTS, Errc::file_exists, "file_exists"}, {MPI_ERR_FILE_IN_USE, Errc::file_in_use, "file_in_use"},
    {MPI_ERR_NO_SUCH_FILE, Errc::no_such_file, "no_such_file"}, {MPI_ERR_ACCESS, Errc::access, "access"},
    {MPI_ERR_AMODE, Errc::amode, "amode"}, {MPI_ERR_BAD_FILE, Errc::bad_file, "bad_file"},
    {MPI_ERR_CONVERSION, Errc::conversion, "conversion"}, {MPI_ERR_DUP_DATAREP, Errc::dup_datarep, "dup_datarep"},
    {MPI_ERR_IO, Errc::io, "io"}, {MPI_ERR_NO_SPACE, Errc::no_space, "no_space"},
    {MPI_ERR_NOT_SAME, Errc::not_same, "not_same"}, {MPI_ERR_QUOTA, Errc::quota, "quota"},
    {MPI_ERR_READ_ONLY, Errc::read_only, "read_only"},
    {MPI_ERR_UNSUPPORTED_DATAREP, Errc::unsupported_datarep, "unsupported_datarep"},
    {MPI_ERR_UNSUPPORTED_OPERATION, Errc::unsupported_operation, "unsupported_operation"},
    {MPI_ERR_LASTCODE, Errc::other, "other"},
}};
// clang-format on

// "to rank 3, tag 7, of 10 elements": what About holds.
std::string phrase(const detail::About& about) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? " " : ", ") + part; };
  const auto rank = [](int r) {
    if (r == MPI_ANY_SOURCE) return std::string("any rank");
    if (r == MPI_PROC_NULL) return std::string("no rank (MPI_PROC_NULL)");
    return fmt::format("rank {}", r);
  };
  if (about.subject != nullptr) add(about.subject);
  if (about.dest != detail::unset) add("to " + rank(about.dest));
  if (about.source != detail::unset) add("from " + rank(about.source));
  if (about.root != detail::unset) add(fmt::format("root {}", about.root));
  if (about.tag != detail::unset)
    add(about.tag == MPI_ANY_TAG ? "any tag" : fmt::format("tag {}", about.tag));
  if (about.count >= 0) {
    std::string of = "elements";
    if (is_active() && about.type != MPI_DATATYPE_NULL) {
      char name[MPI_MAX_OBJECT_NAME];
      int length = 0;
      if (MPI_Type_get_name(about.type, name, &length) == MPI_SUCCESS && length > 0)
        of = std::string(name, static_cast<std::size_t>(length));
    }
    add(fmt::format("{} x {}", about.count, of));
  }
  return text;
}

// " on 'world' (rank 1 of 4)"
std::string place(MPI_Comm comm) {
  if (comm == MPI_COMM_NULL || !is_active()) return {};
  char name[MPI_MAX_OBJECT_NAME];
  int length = 0;
  int rank = 0;
  int size = 0;
  if (MPI_Comm_get_name(comm, name, &length) != MPI_SUCCESS) length = 0;
  if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS || MPI_Comm_size(comm, &size) != MPI_SUCCESS) return {};
  const std::string text(name, static_cast<std::size_t>(length));
  return fmt::format(" on {} (this is rank {} of {})", text.empty() ? "a communicator" : text, rank, size);
}

// The first line of the MPI's text: MPICH's goes on with a stack.
std::string native_text(int native_code) {
  if (!is_active()) return {};
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(native_code, text, &length) != MPI_SUCCESS) return {};
  std::string line(text, static_cast<std::size_t>(length));
  line.resize(std::min(line.find('\n'), line.size()));
  line.resize(std::min(line.find(", error stack"), line.size()));
  while (!line.empty() && (line.back() == ':' || line.back() == ' ')) line.pop_back();
  return line;
}

// What would have been right, where it can be told.
std::string advice(Errc code, MPI_Comm comm) {
  if (code == Errc::truncate)
    return " (more came than there is room for, or the ranks name different types or counts)";
  if (comm == MPI_COMM_NULL || !is_active()) return {};
  if (code == Errc::rank || code == Errc::root) {
    int inter = 0;
    int size = 0;
    if (MPI_Comm_test_inter(comm, &inter) != MPI_SUCCESS) return {};
    if ((inter != 0 ? MPI_Comm_remote_size(comm, &size) : MPI_Comm_size(comm, &size)) != MPI_SUCCESS)
      return {};
    return fmt::format(" (the ranks{} are 0 to {})", inter != 0 ? " of the other group" : "", size - 1);
  }
  if (code == Errc::tag) {
    void* value = nullptr;
    int found = 0;
    if (MPI_Comm_get_attr(comm, MPI_TAG_UB, static_cast<void*>(&value), &found) != MPI_SUCCESS || found == 0)
      return {};
    return fmt::format(" (tags are 0 to {})", *static_cast<int*>(value));
  }
  return {};
}

}  // namespace

std::string_view name_of(Errc code) noexcept {
  if (code == Errc::not_active) return "not_active";
  if (code == Errc::unsupported) return "unsupported";
  for (const ErrorClass& known : classes) {
    if (known.code == code) return known.name;
  }
  return "other";
}

Errc error_class(int native_code) noexcept {
  int native = native_code;
  if (is_active() && MPI_Error_class(native_code, &native) != MPI_SUCCESS) return Errc::other;
  for (const ErrorClass& known : classes) {
    if (known.native == native) return known.code;
  }
  return Errc::other;
}

Error::Error(Errc code, std::string operation, const std::string& message, int native_code)
    : manyhands::Error(message), code_(code), operation_(std::move(operation)), native_code_(native_code) {}

Unsupported::Unsupported(std::string operation, const std::string& why)
    : Error(Errc::unsupported, operation, fmt::format("mpi: {}: {}", operation, why)) {}

void detail::fail(int native_code, const char* operation, const About& about) {
  const Errc code = error_class(native_code);
  throw Error(code, operation,
              fmt::format("mpi: {}{}{}: error class {}: {}{}", operation, phrase(about), place(about.comm),
                          name_of(code), native_text(native_code), advice(code, about.comm)),
              native_code);
}

void detail::fail(Errc code, const char* operation, const About& about, const std::string& what) {
  throw Error(code, operation,
              fmt::format("mpi: {}{}{}: {}", operation, phrase(about), place(about.comm), what));
}

}  // namespace manyhands::mpi
