#include "manyhands/mpi/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>

#include "manyhands/base/unique_fd.hpp"
#include "manyhands/mpi/large.hpp"

namespace manyhands::mpi {
namespace detail {

struct FileState final : Closing {
  MPI_File file = MPI_FILE_NULL;
  MPI_Comm comm = MPI_COMM_NULL;  // of the same ranks, our own; null if the file was opened by others
  std::string path;
  std::string place;     // the path from the root on, whatever the working directory is later
  MPI_Offset etype = 1;  // bytes
  MPI_Offset displacement = 0;
  bool dense = true;   // behind the displacement the view shows every byte
  int exceptions = 0;  // in flight when it was made
  bool owned = true;   // to be closed here

  // The split collective under way.
  struct Half {
    bool write;
    FileVerb verb;
    void* data;
    Datatype type;    // made for it
    MPI_Count limit;  // bytes there to be read; -1: what MPI reports is true
    Spread spread;
  };
  std::optional<Half> half;
  unsigned halves = 0;  // begun so far: the number of the one under way

  int end_half(MPI_Status& status);
  int close();
  void close_at_end() noexcept override {
    if (owned && file != MPI_FILE_NULL) close();
  }
};

}  // namespace detail

namespace {

using detail::About;
using detail::FileState;
using detail::FileVerb;
using detail::Spread;

// Errors of files come to the handler of MPI_FILE_NULL as long as there is no file.
void return_errors() {
  static const bool once = [] {
    MPI_File_set_errhandler(MPI_FILE_NULL, MPI_ERRORS_RETURN);
    return true;
  }();
  static_cast<void>(once);
}

FileState& live(const std::shared_ptr<FileState>& state, const char* verb) {
  detail::require_active(verb);
  if (state == nullptr || state->file == MPI_FILE_NULL)
    detail::fail(Errc::file, verb, {}, "the file is closed, or was moved from");
  return *state;
}

struct Reason {
  Errc code;
  std::string what;
};

// Open MPI 4.1 writes names into memory that is too small for longer ones.
#if defined(OPEN_MPI)
constexpr std::size_t longest_name = 220;
#else
constexpr std::size_t longest_name = NAME_MAX;
#endif
bool too_long(const std::string& path) {
  std::size_t start = 0;
  while (start < path.size()) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    if (end - start > longest_name) return true;
    start = end + 1;
  }
  return path.size() >= PATH_MAX;
}

// What is wrong with a name that no MPI may see; null if it may.
const char* unfit(const std::string& path) {
  if (path.empty()) return "the name is empty";  // MPICH 4.0 writes "." into its copy of one byte
  return too_long(path) ? std::strerror(ENAMETOOLONG) : nullptr;
}

// Why a file cannot be opened: MPIs tell some of it as "other error", and not all the same.
std::optional<Reason> reason_of(const std::string& path, Mode mode) {
  struct stat status{};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  const int error = exists ? 0 : errno;
  const auto because = [&](Errc code, int number) { return Reason{code, std::strerror(number)}; };
  if (exists && S_ISDIR(status.st_mode)) return because(Errc::bad_file, EISDIR);
  if (exists && has(mode, Mode::exclusive) && has(mode, Mode::create))
    return because(Errc::file_exists, EEXIST);
  const int access = (has(mode, Mode::read) ? R_OK : 0) | (has(mode, Mode::write) ? W_OK : 0);
  if (exists && ::access(path.c_str(), access) != 0)
    return because(errno == EROFS ? Errc::read_only : Errc::access, errno);
  if (exists) return std::nullopt;
  if (error == EACCES) return because(Errc::access, error);
  if (error == ENAMETOOLONG || error == ENOTDIR || error == ELOOP) return because(Errc::bad_file, error);
  if (!has(mode, Mode::create)) return because(Errc::no_such_file, error);
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  if (::access(folder.c_str(), W_OK) != 0) {
    const int number = errno;
    return because(number == ENOENT  ? Errc::no_such_file
                   : number == EROFS ? Errc::read_only
                                     : Errc::access,
                   number);
  }
  return std::nullopt;
}

void check_file(int code, const char* verb, const FileState& state, const About& more = {}) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  const std::string subject = "\"" + state.path + "\"";
  About about = more;
  about.subject = subject.c_str();
  detail::fail(code, verb, about);
}

[[noreturn]] void fail_file(Errc code, const char* verb, const FileState& state, const std::string& what) {
  const std::string subject = "\"" + state.path + "\"";
  detail::fail(code, verb, {.subject = subject.c_str()}, what);
}

int native_mode(Mode mode) {
  const bool read = has(mode, Mode::read);
  const bool write = has(mode, Mode::write);
  int native = read && write ? MPI_MODE_RDWR : write ? MPI_MODE_WRONLY : MPI_MODE_RDONLY;
  if (has(mode, Mode::create)) native |= MPI_MODE_CREATE;
  if (has(mode, Mode::exclusive)) native |= MPI_MODE_EXCL;
  if (has(mode, Mode::append)) native |= MPI_MODE_APPEND;
  if (has(mode, Mode::delete_on_close)) native |= MPI_MODE_DELETE_ON_CLOSE;
  if (has(mode, Mode::unique_open)) native |= MPI_MODE_UNIQUE_OPEN;
  if (has(mode, Mode::sequential)) native |= MPI_MODE_SEQUENTIAL;
  return native;
}

Mode mode_of(int native) {
  Mode mode = (native & MPI_MODE_RDWR) != 0     ? Mode::read | Mode::write
              : (native & MPI_MODE_WRONLY) != 0 ? Mode::write
                                                : Mode::read;
  const auto add = [&](int flag, Mode one) {
    if ((native & flag) != 0) mode = mode | one;
  };
  add(MPI_MODE_CREATE, Mode::create);
  add(MPI_MODE_EXCL, Mode::exclusive);
  add(MPI_MODE_APPEND, Mode::append);
  add(MPI_MODE_DELETE_ON_CLOSE, Mode::delete_on_close);
  add(MPI_MODE_UNIQUE_OPEN, Mode::unique_open);
  add(MPI_MODE_SEQUENTIAL, Mode::sequential);
  return mode;
}

const char* name_of(bool write, FileVerb verb) {
  switch (verb) {
    case FileVerb::at:
      return write ? "File::write_at" : "File::read_at";
    case FileVerb::at_all:
      return write ? "File::write_at_all" : "File::read_at_all";
    case FileVerb::own:
      return write ? "File::write" : "File::read";
    case FileVerb::own_all:
      return write ? "File::write_all" : "File::read_all";
    case FileVerb::shared:
      return write ? "File::write_shared" : "File::read_shared";
    case FileVerb::ordered:
      return write ? "File::write_ordered" : "File::read_ordered";
  }
  return "File";
}

int call(bool write, FileVerb verb, MPI_File file, MPI_Offset at, void* data, int n, MPI_Datatype type,
         MPI_Status* status) {
  switch (verb) {
    case FileVerb::at:
      return (write ? MPI_File_write_at(file, at, data, n, type, status)
                    : MPI_File_read_at(file, at, data, n, type, status));
    case FileVerb::at_all:
      return (write ? MPI_File_write_at_all(file, at, data, n, type, status)
                    : MPI_File_read_at_all(file, at, data, n, type, status));
    case FileVerb::own:
      return (write ? MPI_File_write(file, data, n, type, status)
                    : MPI_File_read(file, data, n, type, status));
    case FileVerb::own_all:
      return (write ? MPI_File_write_all(file, data, n, type, status)
                    : MPI_File_read_all(file, data, n, type, status));
    case FileVerb::shared:
      return (write ? MPI_File_write_shared(file, data, n, type, status)
                    : MPI_File_read_shared(file, data, n, type, status));
    case FileVerb::ordered:
      return (write ? MPI_File_write_ordered(file, data, n, type, status)
                    : MPI_File_read_ordered(file, data, n, type, status));
  }
  return MPI_ERR_ARG;
}

int start_call(bool write, FileVerb verb, MPI_File file, MPI_Offset at, void* data, int n, MPI_Datatype type,
               MPI_Request* request) {
  switch (verb) {
    case FileVerb::at:
      return (write ? MPI_File_iwrite_at(file, at, data, n, type, request)
                    : MPI_File_iread_at(file, at, data, n, type, request));
    case FileVerb::at_all:
      return (write ? MPI_File_iwrite_at_all(file, at, data, n, type, request)
                    : MPI_File_iread_at_all(file, at, data, n, type, request));
    case FileVerb::own:
      return (write ? MPI_File_iwrite(file, data, n, type, request)
                    : MPI_File_iread(file, data, n, type, request));
    case FileVerb::own_all:
      return (write ? MPI_File_iwrite_all(file, data, n, type, request)
                    : MPI_File_iread_all(file, data, n, type, request));
    case FileVerb::shared:
      return (write ? MPI_File_iwrite_shared(file, data, n, type, request)
                    : MPI_File_iread_shared(file, data, n, type, request));
    case FileVerb::ordered:
      break;  // MPI has none
  }
  return MPI_ERR_ARG;
}

int begin_call(bool write, FileVerb verb, MPI_File file, MPI_Offset at, void* data, int n,
               MPI_Datatype type) {
  switch (verb) {
    case FileVerb::at_all:
      return (write ? MPI_File_write_at_all_begin(file, at, data, n, type)
                    : MPI_File_read_at_all_begin(file, at, data, n, type));
    case FileVerb::own_all:
      return (write ? MPI_File_write_all_begin(file, data, n, type)
                    : MPI_File_read_all_begin(file, data, n, type));
    case FileVerb::ordered:
      return (write ? MPI_File_write_ordered_begin(file, data, n, type)
                    : MPI_File_read_ordered_begin(file, data, n, type));
    default:
      return MPI_ERR_ARG;
  }
}

int end_call(bool write, FileVerb verb, MPI_File file, void* data, MPI_Status* status) {
  switch (verb) {
    case FileVerb::at_all:
      return (write ? MPI_File_write_at_all_end(file, data, status)
                    : MPI_File_read_at_all_end(file, data, status));
    case FileVerb::own_all:
      return (write ? MPI_File_write_all_end(file, data, status) : MPI_File_read_all_end(file, data, status));
    case FileVerb::ordered:
      return (write ? MPI_File_write_ordered_end(file, data, status)
                    : MPI_File_read_ordered_end(file, data, status));
    default:
      return MPI_ERR_ARG;
  }
}

// What MPI takes as an offset: etypes.
MPI_Offset in_etypes(const FileState& state, MPI_Offset bytes, const char* verb) {
  if (bytes % state.etype != 0)
    fail_file(Errc::arg, verb, state,
              fmt::format("byte {} of the view is not at a multiple of its etype, of {} bytes", bytes,
                          state.etype));
  return bytes / state.etype;
}

MPI_Offset place(const FileState& state, FileVerb verb, MPI_Offset offset, Buffer data, MPI_Offset unit,
                 const char* name) {
  if (verb != FileVerb::at && verb != FileVerb::at_all) return 0;
  if (offset < 0)
    fail_file(Errc::arg, name, state, fmt::format("the offset {} lies before the beginning", offset));
  if (unit == 0) {
    MPI_Count size = 0;
    detail::check(MPI_Type_size_x(data.type, &size), name);
    unit = static_cast<MPI_Offset>(size);
  }
  MPI_Offset bytes = 0;
  if (__builtin_mul_overflow(offset, unit, &bytes))
    fail_file(
        Errc::arg, name, state,
        fmt::format("the offset {}, in units of {} bytes, is beyond what a file can have", offset, unit));
  return in_etypes(state, bytes, name);
}

Status to_file_status(const MPI_Status& native, MPI_Count limit) {
  MPI_Count bytes = detail::bytes_of(native);
  if (limit >= 0) bytes = std::min(bytes, limit);
  return {.source = proc_null, .tag = any_tag, .bytes = bytes, .cancelled = false};
}

// ---- Where the file ends. MPIs do not look when they read together, or under a view: MPICH 4.0 and Open MPI
// 4.1 report what was asked for, and nonblocking and split reads of Open MPI never end.

bool is_named(MPI_Datatype type) {
  int integers = 0;
  int addresses = 0;
  int types = 0;
  int combiner = MPI_COMBINER_NAMED;
  MPI_Type_get_envelope(type, &integers, &addresses, &types, &combiner);
  return combiner == MPI_COMBINER_NAMED;
}

// What the view of a handle from outside is.
void learn_view(FileState& state, const char* verb) {
  MPI_Datatype etype = MPI_DATATYPE_NULL;
  MPI_Datatype filetype = MPI_DATATYPE_NULL;
  char representation[MPI_MAX_DATAREP_STRING];
  detail::check(MPI_File_get_view(state.file, &state.displacement, &etype, &filetype, representation), verb);
  int size = 1;
  detail::check(MPI_Type_size(etype, &size), verb);
  state.etype = size;
  state.dense = etype == filetype && is_named(etype);
  for (MPI_Datatype type : {etype, filetype}) {
    if (!is_named(type)) MPI_Type_free(&type);  // predefined ones are not ours
  }
}

// How many of `wanted` bytes from etype `at` of the view on lie before the end of the file; -1: unknown.
MPI_Count bytes_there(const FileState& state, MPI_Offset at, MPI_Count wanted) {
  MPI_Offset size = 0;
  if (MPI_File_get_size(state.file, &size) != MPI_SUCCESS) return -1;
  if (state.dense) {
    const MPI_Offset shown = size - state.displacement;
    const MPI_Offset before = at * state.etype;
    return shown <= before ? 0 : std::min<MPI_Count>(wanted, shown - before);
  }
  // Along a view, offsets in the file never fall.
  const auto begins_within = [&](MPI_Offset etype) {
    MPI_Offset byte = 0;
    if (MPI_File_get_byte_offset(state.file, etype, &byte) != MPI_SUCCESS) return -1;
    return byte + state.etype <= size ? 1 : 0;
  };
  MPI_Offset low = at;  // all before it lie within
  MPI_Offset high = at + (wanted + state.etype - 1) / state.etype;
  while (low < high) {
    const MPI_Offset middle = low + (high - low) / 2;
    const int within = begins_within(middle);
    if (within < 0) return -1;
    (within != 0 ? low : high) = within != 0 ? middle + 1 : middle;
  }
  MPI_Count there = (low - at) * state.etype;
  MPI_Offset byte = 0;  // of an etype that the end cuts
  if (there < wanted && MPI_File_get_byte_offset(state.file, low, &byte) == MPI_SUCCESS && byte < size)
    there += size - byte;
  return std::min(there, wanted);
}

// A read as it is to be asked for, and the bytes that are there of it; -1 if that is unknown.
struct Reach {
  Buffer data;
  MPI_Count limit = -1;
  Spread spread = {};
};

Reach within(const FileState& state, FileVerb verb, MPI_Offset at, Buffer data) {
  Reach reach{data};
  MPI_Count element = 0;
  MPI_Type_size_x(data.type, &element);
  const MPI_Count wanted = data.count * element;
  switch (verb) {
    case FileVerb::at:
    case FileVerb::at_all:
      break;
    case FileVerb::own:
    case FileVerb::own_all:
      if (MPI_File_get_position(state.file, &at) != MPI_SUCCESS) return reach;
      break;
    case FileVerb::shared:  // at most so much: others may move the position meanwhile
      if (MPI_File_get_position_shared(state.file, &at) != MPI_SUCCESS) return reach;
      break;
    case FileVerb::ordered: {
      if (state.comm == MPI_COMM_NULL) return reach;
      // Nobody moves it before rank 0 has looked.
      int rank = 0;
      MPI_Comm_rank(state.comm, &rank);
      long long numbers[2] = {0, (wanted + state.etype - 1) / state.etype};
      if (rank == 0) {
        MPI_Offset now = 0;
        numbers[0] = MPI_File_get_position_shared(state.file, &now) == MPI_SUCCESS ? now : -1;
      }
      long long before = 0;
      MPI_Bcast(&numbers[0], 1, MPI_LONG_LONG, 0, state.comm);
      MPI_Exscan(&numbers[1], &before, 1, MPI_LONG_LONG, MPI_SUM, state.comm);
      if (numbers[0] < 0) return reach;
      at = numbers[0] + (rank == 0 ? 0 : before);
      break;
    }
  }
  reach.limit = bytes_there(state, at, wanted);
  if (reach.limit < 0 || reach.limit == wanted) return reach;
  if (verb == FileVerb::shared) return reach;
  if (reach.limit % element == 0) {
    reach.data.count = reach.limit / element;
    return reach;
  }
  if (is_named(data.type)) {
    reach.data = {data.data, reach.limit, MPI_BYTE};
    return reach;
  }
  reach.spread.bytes.resize(static_cast<std::size_t>(reach.limit));
  reach.spread.into = {data.data, (reach.limit + element - 1) / element, data.type};
  reach.data = {reach.spread.bytes.data(), reach.limit, MPI_BYTE};
  return reach;
}

// Single reads of plain data that lies side by side MPIs report right.
bool reported_right(const FileState& state, FileVerb verb, const Buffer& data) {
  const bool single = verb == FileVerb::at || verb == FileVerb::own || verb == FileVerb::shared;
  return single && state.dense && is_named(data.type);
}

}  // namespace

void detail::Spread::finish() const {
  if (bytes.empty()) return;
  // What lies there, packed; its beginning is what was read.
  const int n = static_cast<int>(into.count);
  int size = 0;
  check(MPI_Pack_size(n, into.type, MPI_COMM_SELF, &size), "File::read");
  std::vector<std::byte> packed(static_cast<std::size_t>(size));
  int at = 0;
  check(MPI_Pack(into.data, n, into.type, packed.data(), size, &at, MPI_COMM_SELF), "File::read");
  std::memcpy(packed.data(), bytes.data(), bytes.size());
  int from = 0;
  check(MPI_Unpack(packed.data(), at, &from, into.data, n, into.type, MPI_COMM_SELF), "File::read");
}

int detail::FileState::end_half(MPI_Status& status) {
  const Half ending = *std::exchange(half, std::nullopt);
  const int code = end_call(ending.write, ending.verb, file, ending.data, &status);
  if (code == MPI_SUCCESS) ending.spread.finish();
  return code;
}

int detail::FileState::close() {
  MPI_Status status{};
  if (half) end_half(status);
  const int code = MPI_File_close(&file);
  file = MPI_FILE_NULL;
  if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
  return code;
}

// ---- Beginning and end.

File::File() : state_(std::make_shared<FileState>()) {
  state_->exceptions = std::uncaught_exceptions();
  return_errors();
}

File::File(const Comm& comm, const std::string& path, Mode mode, const Info& info)
    : state_((detail::require_active("File"), std::make_shared<FileState>())) {
  FileState& state = *state_;
  state.exceptions = std::uncaught_exceptions();
  state.path = path;
  return_errors();
  if (!comm) fail_file(Errc::comm, "File", state, "the communicator is empty");
  if (const char* const why = unfit(path)) fail_file(Errc::bad_file, "File", state, why);
  if (!has(mode, Mode::read | Mode::write))
    fail_file(Errc::amode, "File", state, "the mode has neither Mode::read nor Mode::write");
  if (!has(mode, Mode::write) && has(mode, Mode::create | Mode::exclusive | Mode::truncate))
    fail_file(Errc::amode, "File", state, "only to be read, and yet to be created or cut");
  if (has(mode, Mode::sequential) && has(mode, Mode::read) && has(mode, Mode::write))
    fail_file(Errc::amode, "File", state, "sequential files are read or written, not both");
  std::error_code nowhere;
  state.place = std::filesystem::absolute(path, nowhere).string();
  detail::check(MPI_Comm_split(comm.native(), 0, 0, &state.comm), "File", {.comm = comm.native()});
  MPI_Comm_set_errhandler(state.comm, MPI_ERRORS_RETURN);
  // A folder some MPIs open like a file.
  int is_folder = std::filesystem::is_directory(path, nowhere) ? 1 : 0;
  int code = MPI_Allreduce(MPI_IN_PLACE, &is_folder, 1, MPI_INT, MPI_MAX, state.comm);
  if (code == MPI_SUCCESS && is_folder == 0)
    code = MPI_File_open(comm.native(), path.c_str(), native_mode(mode), info.native(), &state.file);
  if (code != MPI_SUCCESS || is_folder != 0) {
    state.file = MPI_FILE_NULL;
    MPI_Comm_free(&state.comm);
    if (is_folder != 0) fail_file(Errc::bad_file, "File", state, std::strerror(EISDIR));
    const std::string subject = "\"" + path + "\"";
    if (const auto reason = reason_of(path, mode))
      throw Error(reason->code, "File", fmt::format("mpi: File {}: {}", subject, reason->what), code);
    detail::fail(code, "File", {.comm = comm.native(), .subject = subject.c_str()});
  }
  MPI_File_set_errhandler(state.file, MPI_ERRORS_RETURN);
  detail::keep_for_end(state_);
  if (has(mode, Mode::truncate)) check_file(MPI_File_set_size(state.file, 0), "File", state);
}

File File::adopt(MPI_File raw) {
  File made = of_handle(raw, "(adopted)", "File::adopt");
  MPI_File_set_errhandler(raw, MPI_ERRORS_RETURN);
  made.state_->owned = true;
  detail::keep_for_end(made.state_);
  return made;
}

File File::view(MPI_File raw) { return of_handle(raw, "(viewed)", "File::view"); }

MPI_File File::release() noexcept {
  if (state_ == nullptr) return MPI_FILE_NULL;
  const MPI_File file = state_->file;
  if (state_->comm != MPI_COMM_NULL && is_active()) MPI_Comm_free(&state_->comm);
  state_->owned = false;
  detail::forget_at_end(*state_);
  state_.reset();
  return file;
}

// Not owned.
File File::of_handle(MPI_File raw, const char* path, const char* verb) {
  detail::require_active(verb);
  if (raw == MPI_FILE_NULL) detail::fail(Errc::file, verb, {}, "the handle is MPI_FILE_NULL");
  File made;
  made.state_->file = raw;
  made.state_->path = path;
  made.state_->owned = false;
  learn_view(*made.state_, verb);
  return made;
}

File::File(File&& other) noexcept = default;

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    this->~File();
    std::construct_at(&state_, std::move(other.state_));
  }
  return *this;
}

File::~File() {
  if (state_ == nullptr || !state_->owned || state_->file == MPI_FILE_NULL || !is_active()) return;
  if (std::uncaught_exceptions() > state_->exceptions) return;
  detail::forget_at_end(*state_);
  state_->close();
}

void File::close() {
  FileState& state = live(state_, "File::close");
  if (!state.owned) fail_file(Errc::file, "File::close", state, "it is another's: only viewed here");
  const auto closing = std::move(state_);
  detail::forget_at_end(state);
  check_file(state.close(), "File::close", *closing);
}

void delete_file(const std::string& path, const Info& info) {
  detail::require_active("delete_file");
  return_errors();
  if (const char* const why = unfit(path))
    detail::fail(Errc::bad_file, "delete_file", {.subject = path.c_str()}, why);
  const int code = MPI_File_delete(path.c_str(), info.native());
  if (code == MPI_SUCCESS) return;
  const std::string subject = "\"" + path + "\"";
  if (const auto reason = reason_of(path, Mode::write))
    throw Error(reason->code, "delete_file", fmt::format("mpi: delete_file {}: {}", subject, reason->what),
                code);
  detail::fail(code, "delete_file", {.subject = subject.c_str()});
}

// ---- Transfers.

Status File::transfer(bool write, FileVerb verb, MPI_Offset offset, Buffer data, MPI_Offset unit) const {
  const char* const name = name_of(write, verb);
  const FileState& state = live(state_, name);
  const MPI_Offset at = place(state, verb, offset, data, unit, name);
  Reach reach{data};
  if (!write && !reported_right(state, verb, data)) reach = within(state, verb, at, data);
  const Buffer& asked = reach.data;
  MPI_Status status{};
  check_file(detail::with_count(asked.count, asked.type,
                                [&](int n, MPI_Datatype type) {
                                  return call(write, verb, state.file, at, asked.data, n, type, &status);
                                }),
             name, state, {.count = data.count, .type = data.type});
  reach.spread.finish();
  const Status done = to_file_status(status, reach.limit);
  // A full disk is no error for every MPI.
  if (write && done.bytes >= 0) {
    MPI_Count size = 0;
    MPI_Type_size_x(data.type, &size);
    if (done.bytes < size * data.count)
      fail_file(Errc::no_space, name, state,
                fmt::format("only {} of {} bytes were written", done.bytes, size * data.count));
  }
  return done;
}

namespace {

// The data as one number of a datatype, which may have to be made for it.
struct Sized {
  int n;
  MPI_Datatype type;
  Datatype made;
};

Sized sized(Buffer data) {
  if (data.count <= detail::large_limit) return {static_cast<int>(data.count), data.type, Datatype()};
  Datatype made = Datatype::contiguous_of(data.count, data.type);
  const MPI_Datatype type = made.native();
  return {1, type, std::move(made)};
}

#if defined(OPEN_MPI)
constexpr bool ends_beyond_the_end = false;
#else
constexpr bool ends_beyond_the_end = true;
#endif

}  // namespace

detail::FileRequest File::start(bool write, FileVerb verb, MPI_Offset offset, Buffer data,
                                MPI_Offset unit) const {
  const char* const name = name_of(write, verb);
  const FileState& state = live(state_, name);
  const MPI_Offset at = place(state, verb, offset, data, unit, name);
  detail::FileRequest started;
  if (!write && verb == FileVerb::shared && !ends_beyond_the_end) {
    started.limit = transfer(write, verb, offset, data, unit).bytes;
    started.done = true;
    return started;
  }
  Reach reach{data};
  if (!write && (!ends_beyond_the_end || !reported_right(state, verb, data)))
    reach = within(state, verb, at, data);
  Sized whole = sized(reach.data);
  check_file(start_call(write, verb, state.file, at, reach.data.data, whole.n, whole.type, &started.native),
             name, state, {.count = data.count, .type = data.type});
  started.type = std::move(whole.made);
  started.limit = reach.limit;
  started.spread = std::move(reach.spread);
  return started;
}

File::Split File::begin(bool write, FileVerb verb, MPI_Offset offset, Buffer data, MPI_Offset unit) const {
  const char* const name = name_of(write, verb);
  FileState& state = live(state_, name);
  if (state.half) fail_file(Errc::request, name, state, "a split collective is under way: end() it first");
  const MPI_Offset at = place(state, verb, offset, data, unit, name);
  Reach reach = write ? Reach{data} : within(state, verb, at, data);
  Sized whole = sized(reach.data);
  check_file(begin_call(write, verb, state.file, at, reach.data.data, whole.n, whole.type), name, state,
             {.count = data.count, .type = data.type});
  state.half.emplace(FileState::Half{write, verb, reach.data.data, std::move(whole.made), reach.limit,
                                     std::move(reach.spread)});
  return {state_, ++state.halves};
}

Status File::Split::end() {
  constexpr const char* verb = "File::Split::end";
  detail::require_active(verb);
  if (state_ == nullptr) detail::fail(Errc::request, verb, {}, "it was ended already");
  const auto ending = std::move(state_);
  FileState& state = *ending;
  if (state.file == MPI_FILE_NULL || !state.half || state.halves != number_)
    fail_file(Errc::file, verb, state, "the file was closed, which ended what was under way");
  const char* const name = name_of(state.half->write, state.half->verb);
  const MPI_Count limit = state.half->limit;
  MPI_Status status{};
  check_file(state.end_half(status), name, state);
  return to_file_status(status, limit);
}

File::Split::~Split() {
  if (state_ == nullptr || !is_active() || std::uncaught_exceptions() > state_->exceptions) return;
  if (state_->file == MPI_FILE_NULL || !state_->half || state_->halves != number_) return;
  MPI_Status status{};
  state_->end_half(status);
}

void File::fail_end(FileVerb verb, MPI_Count bytes, std::size_t wanted) const {
  fail_file(Errc::truncate, name_of(false, verb), *state_,
            fmt::format("the file ends: {} bytes are there for a value of {}", bytes, wanted));
}

// ---- Positions and views.

MPI_Offset File::in_bytes(MPI_Offset offset, std::size_t unit, const char* verb) const {
  MPI_Offset bytes = 0;
  if (__builtin_mul_overflow(offset, static_cast<MPI_Offset>(unit), &bytes))
    fail_file(
        Errc::arg, verb, live(state_, verb),
        fmt::format("the offset {}, in units of {} bytes, is beyond what a file can have", offset, unit));
  return bytes;
}

void File::seek_bytes(MPI_Offset bytes, Whence whence, bool shared) const {
  const char* const name = shared ? "File::seek_shared" : "File::seek";
  const FileState& state = live(state_, name);
  const MPI_Offset at = in_etypes(state, bytes, name);
  if (whence == Whence::begin && at < 0)
    fail_file(Errc::arg, name, state, fmt::format("the position {} lies before the beginning", bytes));
  check_file((shared ? MPI_File_seek_shared : MPI_File_seek)(state.file, at, static_cast<int>(whence)), name,
             state);
}

MPI_Offset File::position_bytes(bool shared) const {
  const char* const name = shared ? "File::position_shared" : "File::position";
  const FileState& state = live(state_, name);
  MPI_Offset at = 0;
  check_file((shared ? MPI_File_get_position_shared : MPI_File_get_position)(state.file, &at), name, state);
  return at * state.etype;
}

void File::set_view(MPI_Offset displacement, MPI_Datatype etype, MPI_Datatype filetype,
                    const ViewOptions& options) {
  FileState& state = live(state_, "File::set_view");
  MPI_Count size = 0;
  detail::check(MPI_Type_size_x(etype, &size), "File::set_view");
  if (size == 0) fail_file(Errc::type, "File::set_view", state, "the etype has no bytes");
  check_file(MPI_File_set_view(state.file, displacement, etype, filetype, options.representation.c_str(),
                               options.info.native()),
             "File::set_view", state);
  MPI_Count lower = 0;
  MPI_Count extent = 0;
  MPI_Type_get_extent_x(filetype, &lower, &extent);
  MPI_Count filesize = 0;
  MPI_Type_size_x(filetype, &filesize);
  MPI_Count true_lower = 0;
  MPI_Count true_extent = 0;
  MPI_Type_get_true_extent_x(filetype, &true_lower, &true_extent);
  state.etype = static_cast<MPI_Offset>(size);
  state.displacement = displacement;
  // Everything from its beginning to the next, so that its parts need not be in order.
  state.dense = filetype == etype && extent == filesize && lower == 0 && true_lower == 0 &&
                true_extent == extent && options.representation == "native";
}

namespace {

struct View {
  MPI_Offset displacement;
  std::string representation;
};

View view_of(const FileState& state) {
  MPI_Datatype etype = MPI_DATATYPE_NULL;
  MPI_Datatype filetype = MPI_DATATYPE_NULL;
  char text[MPI_MAX_DATAREP_STRING];
  View view{};
  check_file(MPI_File_get_view(state.file, &view.displacement, &etype, &filetype, text), "File::view", state);
  view.representation = text;
  for (MPI_Datatype type : {etype, filetype}) {
    int integers = 0;
    int addresses = 0;
    int types = 0;
    int combiner = MPI_COMBINER_NAMED;
    MPI_Type_get_envelope(type, &integers, &addresses, &types, &combiner);
    if (combiner != MPI_COMBINER_NAMED) MPI_Type_free(&type);  // predefined ones are not ours
  }
  return view;
}

}  // namespace

MPI_Offset File::view_displacement() const {
  return view_of(live(state_, "File::view_displacement")).displacement;
}
std::string File::view_representation() const {
  return view_of(live(state_, "File::view_representation")).representation;
}

MPI_Offset File::absolute(MPI_Offset bytes) const {
  const FileState& state = live(state_, "File::byte_offset");
  MPI_Offset at = 0;
  check_file(MPI_File_get_byte_offset(state.file, in_etypes(state, bytes, "File::byte_offset"), &at),
             "File::byte_offset", state);
  return at;
}

// ---- The file itself.

MPI_Offset File::size() const {
  const FileState& state = live(state_, "File::size");
  MPI_Offset bytes = 0;
  check_file(MPI_File_get_size(state.file, &bytes), "File::size", state);
  return bytes;
}

void File::set_size(MPI_Offset bytes) const {
  const FileState& state = live(state_, "File::set_size");
  if (bytes < 0) fail_file(Errc::arg, "File::set_size", state, fmt::format("a size of {} bytes", bytes));
  check_file(MPI_File_set_size(state.file, bytes), "File::set_size", state);
}

#if defined(OPEN_MPI)
namespace {

// Blocks of the disk for the first `bytes` bytes of the file; the error number, 0 for none.
int make_room(const std::string& path, MPI_Offset bytes) {
  if (bytes == 0) return 0;
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno;
  return ::posix_fallocate(file.get(), 0, bytes);
}

}  // namespace
#endif

void File::preallocate(MPI_Offset bytes) const {
  const FileState& state = live(state_, "File::preallocate");
  if (bytes < 0) fail_file(Errc::arg, "File::preallocate", state, fmt::format("a size of {} bytes", bytes));
#if defined(OPEN_MPI)
  // Open MPI 4.1 reads all that is there and writes it again; the file system need not.
  if (state.comm != MPI_COMM_NULL) {
    if (!has(mode(), Mode::write))
      fail_file(Errc::access, "File::preallocate", state, "it was opened only to be read");
    int rank = 0;
    MPI_Comm_rank(state.comm, &rank);
    check_file(MPI_Barrier(state.comm), "File::preallocate", state);  // what they did before is done
    int error = rank == 0 ? make_room(state.place, bytes) : 0;
    check_file(MPI_Bcast(&error, 1, MPI_INT, 0, state.comm), "File::preallocate", state);
    if (error != 0)
      fail_file(error == ENOSPC || error == EFBIG ? Errc::no_space : Errc::io, "File::preallocate", state,
                fmt::format("{} bytes cannot be had: {}", bytes, std::strerror(error)));
    return;
  }
#endif
  check_file(MPI_File_preallocate(state.file, bytes), "File::preallocate", state);
}

void File::sync() const {
  const FileState& state = live(state_, "File::sync");
  check_file(MPI_File_sync(state.file), "File::sync", state);
}

void File::set_atomicity(bool on) const {
  const FileState& state = live(state_, "File::set_atomicity");
  check_file(MPI_File_set_atomicity(state.file, on ? 1 : 0), "File::set_atomicity", state);
}

bool File::atomicity() const {
  const FileState& state = live(state_, "File::atomicity");
  int on = 0;
  check_file(MPI_File_get_atomicity(state.file, &on), "File::atomicity", state);
  return on != 0;
}

Mode File::mode() const {
  const FileState& state = live(state_, "File::mode");
  int native = 0;
  check_file(MPI_File_get_amode(state.file, &native), "File::mode", state);
  return mode_of(native);
}

Info File::info() const {
  const FileState& state = live(state_, "File::info");
  MPI_Info info = MPI_INFO_NULL;
  check_file(MPI_File_get_info(state.file, &info), "File::info", state);
  return Info::adopt(info);
}

void File::set_info(const Info& info) const {
  const FileState& state = live(state_, "File::set_info");
  check_file(MPI_File_set_info(state.file, info.native()), "File::set_info", state);
}

Group File::group() const {
  const FileState& state = live(state_, "File::group");
  MPI_Group group = MPI_GROUP_NULL;
  check_file(MPI_File_get_group(state.file, &group), "File::group", state);
  return Group::adopt(group);
}

const std::string& File::path() const& { return live(state_, "File::path").path; }
MPI_Offset File::type_extent(const Datatype& type) const {
  const FileState& state = live(state_, "File::type_extent");
  MPI_Aint extent = 0;
  check_file(MPI_File_get_type_extent(state.file, type.native(), &extent), "File::type_extent", state);
  return extent;
}

MPI_File File::native() const noexcept { return state_ == nullptr ? MPI_FILE_NULL : state_->file; }

}  // namespace manyhands::mpi
