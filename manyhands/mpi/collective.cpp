#include "manyhands/mpi/collective.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "manyhands/base/elf.hpp"
#include "manyhands/base/unique_fd.hpp"
#include "manyhands/mpi/error.hpp"

namespace manyhands::mpi::collective {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t chunk_bytes = 4 << 20;

// Why a rank cannot go on. Travels to all ranks, and becomes their Error.
struct Failure {
  Errc code = Errc::other;
  std::string text;
};

Failure failure_of(int error, const std::string& what) {
  const Errc code = error == ENOENT || error == ENOTDIR ? Errc::no_such_file
                    : error == EACCES || error == EPERM ? Errc::access
                    : error == ENOSPC || error == ENOMEM || error == EMFILE || error == ENFILE
                        ? Errc::no_space
                        : Errc::file;
  return {code, SystemError(what, error).what()};
}

// A communicator of our own for the time of one call.
class OwnComm {
 public:
  explicit OwnComm(MPI_Comm comm) : comm_(comm) {}
  OwnComm(const OwnComm&) = delete;
  OwnComm& operator=(const OwnComm&) = delete;
  ~OwnComm() {
    if (comm_ != MPI_COMM_NULL && is_active()) MPI_Comm_free(&comm_);
  }
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

// The leaders of the nodes, and the ranks of this node.
struct Topology {
  explicit Topology(MPI_Comm whole, const char* operation)
      : comm(whole),
        name(operation),
        node(split_node(whole, operation)),
        leaders(split_leaders(whole, node.get(), operation)) {
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
  }

  static MPI_Comm split_node(MPI_Comm comm, const char* operation) {
    int key = 0;
    MPI_Comm_rank(comm, &key);
    MPI_Comm node = MPI_COMM_NULL;
    detail::check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, key, MPI_INFO_NULL, &node), operation);
    return node;
  }
  static MPI_Comm split_leaders(MPI_Comm comm, MPI_Comm node, const char* operation) {
    int key = 0;
    int in_node = 0;
    MPI_Comm_rank(comm, &key);
    MPI_Comm_rank(node, &in_node);
    MPI_Comm leaders = MPI_COMM_NULL;
    detail::check(MPI_Comm_split(comm, in_node == 0 ? 0 : MPI_UNDEFINED, key, &leaders), operation);
    return leaders;
  }

  bool is_leader() const { return leaders.get() != MPI_COMM_NULL; }

  MPI_Comm comm;
  const char* name;  // of the operation, for errors
  OwnComm node;
  OwnComm leaders;  // null on the other ranks; rank 0 is rank 0 of it
  int rank = 0;
  int size = 0;
};

void broadcast(MPI_Comm comm, const char* operation, void* data, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += chunk_bytes) {
    const auto count = static_cast<int>(std::min(chunk_bytes, bytes - at));
    detail::check(MPI_Bcast(static_cast<std::byte*>(data) + at, count, MPI_BYTE, 0, comm), operation,
                  {.comm = comm});
  }
}

void broadcast_text(MPI_Comm comm, const char* operation, std::string& text) {
  std::uint64_t size = text.size();
  broadcast(comm, operation, &size, sizeof size);
  text.resize(size);
  broadcast(comm, operation, text.data(), size);
}

// All ranks say how they fare. If one failed, all throw its failure: that of the lowest such rank.
void agree(const Topology& topology, const std::string& path, const std::optional<Failure>& mine) {
  const int vote = mine ? topology.rank : topology.size;
  int first = 0;
  detail::check(MPI_Allreduce(&vote, &first, 1, MPI_INT, MPI_MIN, topology.comm), topology.name,
                {.comm = topology.comm});
  if (first == topology.size) return;
  std::uint64_t header[2] = {0, 0};
  std::string text;
  if (first == topology.rank) {
    text = mine->text;
    header[0] = static_cast<std::uint64_t>(mine->code);
    header[1] = text.size();
  }
  detail::check(MPI_Bcast(header, 2, MPI_UINT64_T, first, topology.comm), topology.name,
                {.comm = topology.comm});
  text.resize(header[1]);
  detail::check(MPI_Bcast(text.data(), static_cast<int>(text.size()), MPI_CHAR, first, topology.comm),
                topology.name, {.comm = topology.comm});
  throw Error(static_cast<Errc>(header[0]), topology.name,
              fmt::format("mpi: {} '{}': rank {} found: {}", topology.name, path, first, text));
}

// Runs `act` on this rank if `here`; its exceptions become this rank's failure. Collective.
template <class Act>
void agree_after(const Topology& topology, const std::string& path, bool here, Act act) {
  std::optional<Failure> failure;
  if (here) {
    try {
      failure = act();
    } catch (const SystemError& error) {
      failure = failure_of(error.error(), "");
      failure->text = error.what();
    } catch (const ElfError& error) {
      failure = Failure{Errc::file, error.what()};
    } catch (const std::exception& error) {
      failure = Failure{Errc::other, error.what()};
    }
  }
  agree(topology, path, failure);
}

// --- one copy on each node
// -----------------------------------------------------------------------------------------------------

struct Mapping {
  explicit Mapping(std::size_t size_bytes, int protection, int fd) : size(size_bytes) {
    address = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) throw_errno(fmt::format("map {} bytes", size));
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (address != nullptr) ::munmap(address, size);
  }
  std::byte* bytes() const { return static_cast<std::byte*>(address); }
  std::span<const std::byte> release() {
    return {static_cast<std::byte*>(std::exchange(address, nullptr)), size};
  }

  void* address = nullptr;
  std::size_t size;
};

// Which file a descriptor stands for: the same numbers, the same file.
struct Identity {
  std::int64_t pid = 0;
  std::int64_t fd = -1;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
};

bool is_same(const UniqueFd& file, const Identity& identity) {
  struct stat about{};
  return file && ::fstat(file.get(), &about) == 0 && about.st_dev == identity.device &&
         about.st_ino == identity.inode && static_cast<std::uint64_t>(about.st_size) == identity.size;
}

// Sealed later. The pages are allocated at once: a node that is out of memory is an error now and not a
// SIGBUS later.
UniqueFd make_memory(const std::string& path, std::uint64_t size) {
  const std::string name = "manyhands:" + fs::path(path).filename().string().substr(0, 200);
  UniqueFd memory(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) throw_errno("make memory for the file");
  const int error = size == 0 ? 0 : ::posix_fallocate(memory.get(), 0, static_cast<off_t>(size));
  if (error != 0) throw SystemError(fmt::format("get {} bytes of memory for the file", size), error);
  return memory;
}

void seal(const UniqueFd& memory) {
  ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

std::vector<std::string> folders_for_files() {
  std::vector<std::string> folders{"/dev/shm"};
  const char* const chosen = std::getenv("TMPDIR");
  folders.emplace_back(chosen == nullptr || *chosen == '\0' ? "/tmp" : chosen);
  return folders;
}

// A new file with the bytes of `memory`, and its name.
std::pair<UniqueFd, std::string> copy_to_file(const UniqueFd& memory, std::uint64_t size) {
  int error = 0;
  for (const auto& folder : folders_for_files()) {
    std::string path = folder + "/manyhands-XXXXXX";
    UniqueFd file(::mkostemp(path.data(), O_CLOEXEC));
    if (!file) {
      error = errno;
      continue;
    }
    off_t at = 0;
    while (static_cast<std::uint64_t>(at) < size) {
      const ssize_t copied =
          ::copy_file_range(memory.get(), &at, file.get(), nullptr, size - static_cast<std::uint64_t>(at), 0);
      if (copied > 0) continue;
      const Mapping bytes(size, PROT_READ, memory.get());  // older kernels do not copy between file systems
      const ssize_t written =
          ::pwrite(file.get(), bytes.bytes() + at, size - static_cast<std::uint64_t>(at), at);
      if (written <= 0) break;
      at += written;
    }
    if (static_cast<std::uint64_t>(at) == size) return {std::move(file), path};
    error = errno == 0 ? ENOSPC : errno;
    ::unlink(path.c_str());
  }
  throw SystemError("copy the file to /dev/shm or TMPDIR", error);
}

class Source {
 public:
  // Requires: rank 0. Throws SystemError.
  explicit Source(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat about{};
    if (!file_ || ::fstat(file_.get(), &about) != 0) throw_errno(fmt::format("open {}", path));
    if (S_ISDIR(about.st_mode)) throw SystemError(fmt::format("read {}", path), EISDIR);
    if (!S_ISREG(about.st_mode)) throw SystemError(fmt::format("{} is no regular file", path), EINVAL);
    size_ = static_cast<std::uint64_t>(about.st_size);
    if (size_ == 0) read_unsized();
  }

  std::uint64_t size() const { return size_; }

  // The `to.size()` bytes from `at` on.
  void read(std::uint64_t at, std::span<std::byte> to) const {
    if (!whole_.empty()) {
      std::copy_n(whole_.begin() + static_cast<std::ptrdiff_t>(at), to.size(), to.begin());
      return;
    }
    while (!to.empty()) {
      const ssize_t got = ::pread(file_.get(), to.data(), to.size(), static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_errno(fmt::format("read {}", path_));
      if (got == 0)
        throw SystemError(
            fmt::format("{} became shorter while it was read: {} bytes instead of {}", path_, at, size_),
            EIO);
      at += static_cast<std::uint64_t>(got);
      to = to.subspan(static_cast<std::size_t>(got));
    }
  }

 private:
  // Files of /proc say that they are empty.
  void read_unsized() {
    std::array<std::byte, 65536> part;
    for (ssize_t got; (got = ::read(file_.get(), part.data(), part.size())) != 0;) {
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_errno(fmt::format("read {}", path_));
      whole_.insert(whole_.end(), part.begin(), part.begin() + got);
    }
    size_ = whole_.size();
  }

  std::string path_;
  UniqueFd file_;
  std::uint64_t size_ = 0;
  std::vector<std::byte> whole_;
};

}  // namespace

// The steps from rank 0's file to a descriptor on every rank; used by the three functions of the header.
class Distributor {
 public:
  Distributor(const Comm& comm, const char* operation, Sharing sharing)
      : topology_(comm.native(), operation), sharing_(sharing) {}

  const Topology& topology() const { return topology_; }

  struct NodeFile {
    UniqueFd file;  // this rank's own descriptor; not set if the file is empty
    std::uint64_t size = 0;
  };

  // Rank 0's file at `path`, as a read-only descriptor of the node's copy.
  NodeFile distribute(const std::string& path) {
    std::optional<Source> source;
    agree_after(topology_, path, topology_.rank == 0, [&]() -> std::optional<Failure> {
      source.emplace(path);
      return std::nullopt;
    });
    std::uint64_t size = source ? source->size() : 0;
    broadcast(topology_.comm, topology_.name, &size, sizeof size);
    if (size == 0) return {};
    UniqueFd memory;
    std::optional<Mapping> target;
    agree_after(topology_, path, topology_.is_leader(), [&]() -> std::optional<Failure> {
      memory = make_memory(path, size);
      target.emplace(size, PROT_READ | PROT_WRITE, memory.get());
      return std::nullopt;
    });
    std::optional<Failure> failure;
    if (topology_.is_leader()) failure = fill({target->bytes(), size}, source);
    target.reset();
    agree(topology_, path, failure);
    if (memory) seal(memory);
    return {share(path, std::move(memory), size), size};
  }

  FileContents read(const std::string& path) {
    const NodeFile node_file = distribute(path);
    std::optional<Mapping> mapping;
    agree_after(topology_, path, node_file.size != 0, [&]() -> std::optional<Failure> {
      mapping.emplace(node_file.size, PROT_READ, node_file.file.get());
      return std::nullopt;
    });
    return {path, mapping ? mapping->release() : std::span<const std::byte>()};
  }

  Library load(const std::string& path, bool global);

 private:
  // From rank 0 to the leaders, piece by piece. Each piece is preceded by whether it could be read.
  std::optional<Failure> fill(std::span<std::byte> target, const std::optional<Source>& source) const {
    int leaders = 1;
    MPI_Comm_size(topology_.leaders.get(), &leaders);
    std::optional<Failure> failure;
    for (std::size_t at = 0; at < target.size() && !failure; at += chunk_bytes) {
      const auto piece = target.subspan(at, std::min(chunk_bytes, target.size() - at));
      try {
        if (source) source->read(at, piece);
      } catch (const SystemError& error) {
        failure = failure_of(error.error(), "");
        failure->text = error.what();
      }
      if (leaders == 1) continue;
      int good = failure ? 0 : 1;
      broadcast(topology_.leaders.get(), topology_.name, &good, sizeof good);
      if (good == 0) break;  // agree() tells the others why
      broadcast(topology_.leaders.get(), topology_.name, piece.data(), piece.size());
    }
    return failure;
  }

  // The leader's memory for all ranks of the node. Collective over the communicator.
  UniqueFd share(const std::string& path, UniqueFd memory, std::uint64_t size) const {
    UniqueFd mine;
    bool everywhere = false;
    if (sharing_ == Sharing::automatic) {
      mine = open_through_proc(memory);
      const int good = mine ? 1 : 0;
      int all = 0;
      detail::check(MPI_Allreduce(&good, &all, 1, MPI_INT, MPI_MIN, topology_.node.get()), topology_.name);
      everywhere = all == 1;
    }
    std::string name;
    UniqueFd copy;
    agree_after(topology_, path, topology_.is_leader() && !everywhere, [&]() -> std::optional<Failure> {
      std::tie(copy, name) = copy_to_file(memory, size);
      return std::nullopt;
    });
    if (!everywhere) broadcast_text(topology_.node.get(), topology_.name, name);
    std::optional<Failure> failure;
    if (!everywhere) {
      mine = UniqueFd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
      if (!mine) failure = failure_of(errno, fmt::format("open {}, the node's copy", name));
      MPI_Barrier(topology_.node.get());
      if (topology_.is_leader()) ::unlink(name.c_str());
    }
    agree(topology_, path, failure);  // and the leader's descriptor was there as long as it was needed
    return mine;
  }

  // The leader's descriptor by way of /proc: not set if that is forbidden, or if it is another process that
  // we see there.
  UniqueFd open_through_proc(const UniqueFd& memory) const {
    Identity identity;
    if (topology_.is_leader()) {
      struct stat about{};
      ::fstat(memory.get(), &about);
      identity = {::getpid(), memory.get(), about.st_dev, about.st_ino,
                  static_cast<std::uint64_t>(about.st_size)};
    }
    broadcast(topology_.node.get(), topology_.name, &identity, sizeof identity);
    const std::string path = fmt::format("/proc/{}/fd/{}", identity.pid, identity.fd);
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return is_same(file, identity) ? std::move(file) : UniqueFd();
  }

  Topology topology_;
  Sharing sharing_;
};

FileContents::FileContents(FileContents&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

FileContents& FileContents::operator=(FileContents&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileContents::~FileContents() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

FileContents read(const Comm& comm, const std::string& path, const ReadOptions& options) {
  detail::require_active("collective::read");
  return Distributor(comm, "collective::read", options.sharing).read(path);
}

// --- shared libraries
// ---------------------------------------------------------------------------------------------------------

namespace {

std::string name_of_descriptor(const UniqueFd& file) { return fmt::format("/proc/self/fd/{}", file.get()); }

// One that this process has loaded. ld.so knows it by the name of its descriptor: as long as it is loaded,
// the descriptor stays open, lest the next library get the same name and be taken for this one.
class Loaded {
 public:
  Loaded(void* handle, UniqueFd file) : handle_(handle), file_(std::move(file)) {}
  Loaded(Loaded&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), file_(std::move(other.file_)) {}
  Loaded& operator=(Loaded&&) = delete;
  ~Loaded() {
    if (handle_ == nullptr) return;
    ::dlclose(handle_);
    if (!file_) return;
    if (void* const still = ::dlopen(name_of_descriptor(file_).c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
      ::dlclose(still);
      static_cast<void>(file_.release());
    }
  }
  void* handle() const { return handle_; }

 private:
  void* handle_;
  UniqueFd file_;  // not set if ld.so found the library itself
};

}  // namespace

struct Library::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    while (!libraries.empty()) libraries.pop_back();  // what needs others goes first
  }
  std::string path;
  std::vector<std::string> distributed;
  std::vector<Loaded> libraries;  // in the order of loading; the library itself is the last
};

namespace {

// What rank 0 has found out: name and path of each library to be distributed, in the order of loading. A
// library that is left to each rank's own loader is the only one, with an empty path.
struct LoadPlan {
  struct Item {
    std::string name;  // by which ld.so may know it already
    std::string path;
  };
  std::vector<Item> items;

  std::string to_text() const {
    std::string text;
    for (const auto& item : items) text += item.name + '\0' + item.path + '\0';
    return text;
  }
  static LoadPlan of_text(std::string_view text) {
    LoadPlan plan;
    const auto take_word = [&] {
      const auto end = std::min(text.find('\0'), text.size());
      std::string word(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
      return word;
    };
    while (!text.empty()) {
      std::string name = take_word();
      plan.items.push_back({std::move(name), take_word()});
    }
    return plan;
  }
};

// The name that a library of this process carries; "" if it carries none.
std::string_view soname_of(const dl_phdr_info& library) {
  for (int i = 0; i < library.dlpi_phnum; ++i) {
    if (library.dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(library.dlpi_addr + library.dlpi_phdr[i].p_vaddr);
    ElfW(Addr) strings = 0;
    std::optional<ElfW(Xword)> name;
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
      if (entry->d_tag == DT_SONAME) name = entry->d_un.d_val;
    }
    if (!name || strings == 0) return {};
    if (strings < library.dlpi_addr) strings += library.dlpi_addr;  // not relocated, as in the kernel's vdso
    return reinterpret_cast<const char*>(strings + *name);
  }
  return {};
}

// The library of that name or path if this process has it, else null. Asking dlopen(RTLD_NOLOAD) would search
// the file system.
void* already_loaded(const std::string& name) {
  struct Search {
    const std::string& name;
    std::string found{};  // what ld.so calls it
  } search{name};
  ::dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        const std::string_view path = library->dlpi_name == nullptr ? "" : library->dlpi_name;
        if (path.empty() || (path != wanted.name && soname_of(*library) != wanted.name)) return 0;
        wanted.found = path;
        return 1;
      },
      &search);
  return search.found.empty() ? nullptr : ::dlopen(search.found.c_str(), RTLD_LAZY | RTLD_NOLOAD);
}

// As ld.so looks for a name without a slash: LD_LIBRARY_PATH; "": the system's own, or nowhere.
std::string find_library(const std::string& name, const LibrarySearch& search) {
  std::string_view folders = search.library_path;
  while (!folders.empty()) {
    const auto end = std::min(folders.find_first_of(":;"), folders.size());
    const fs::path candidate = fs::path(end == 0 ? "." : std::string(folders.substr(0, end))) / name;
    if (is_elf(candidate)) return candidate;
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return {};
}

// Rank 0's part. Throws SystemError or ElfError; returns a failure for what is missing.
std::optional<Failure> make_plan(const std::string& path, LoadPlan& plan) {
  const LibrarySearch search = LibrarySearch::of_environment();
  std::string file = path;
  if (path.find('/') == std::string::npos) {
    file = find_library(path, search);
    if (file.empty()) {
      plan.items = {{path, ""}};
      return std::nullopt;
    }
  }
  const ElfInfo info = read_elf(file);
  for (const auto& library : needed_libraries(file, info, search, Follow::beside_system)) {
    if (library.is_system) continue;
    if (library.path.empty()) {
      if (void* const known = already_loaded(library.name)) {
        ::dlclose(known);
        continue;
      }
      return Failure{
          Errc::no_such_file,
          fmt::format("{} needs {}, which is neither in its RUNPATH nor in LD_LIBRARY_PATH nor in the "
                      "system's folders",
                      library.needed_by, library.name)};
    }
    if (library.info.soname != library.name) {
      return Failure{Errc::file,
                     fmt::format("{} needs {}, but {} does not carry that name (link it with -Wl,-soname,{})",
                                 library.needed_by, library.name, library.path, library.name)};
    }
    plan.items.push_back({library.name, library.path});
  }
  plan.items.push_back({info.soname.empty() ? file : info.soname, file});
  return std::nullopt;
}

std::string loader_text() {
  const char* const text = ::dlerror();
  return text == nullptr ? "the loader refused it" : text;
}

}  // namespace

Library Distributor::load(const std::string& path, bool global) {
  LoadPlan plan;
  agree_after(topology_, path, topology_.rank == 0, [&] { return make_plan(path, plan); });
  std::string text = plan.to_text();
  broadcast_text(topology_.comm, topology_.name, text);
  plan = LoadPlan::of_text(text);

  const auto state = std::make_shared<Library::State>();
  for (const auto& item : plan.items) {
    void* const known = already_loaded(item.name);
    if (known != nullptr) state->libraries.emplace_back(known, UniqueFd());
    const int is_known = known != nullptr ? 1 : 0;
    int known_everywhere = 0;
    detail::check(MPI_Allreduce(&is_known, &known_everywhere, 1, MPI_INT, MPI_MIN, topology_.comm),
                  topology_.name);
    state->path = item.path.empty() ? item.name : item.path;
    if (known_everywhere == 1) continue;
    NodeFile node_file;
    if (!item.path.empty()) {
      node_file = distribute(item.path);
      state->distributed.push_back(item.path);
    }
    agree_after(topology_, path, known == nullptr, [&]() -> std::optional<Failure> {
      const std::string from = item.path.empty() ? item.name : name_of_descriptor(node_file.file);
      if (void* const handle = ::dlopen(from.c_str(), RTLD_NOW | (global ? RTLD_GLOBAL : RTLD_LOCAL))) {
        state->libraries.emplace_back(handle, std::move(node_file.file));
        return std::nullopt;
      }
      std::string why = loader_text();
      if (const auto at = why.find(from); at != std::string::npos) why.replace(at, from.size(), state->path);
      const bool is_missing = why.find("cannot open shared object file") != std::string::npos;
      return Failure{is_missing ? Errc::no_such_file : Errc::other, why};
    });
  }
  return Library(state);
}

const std::string& Library::path() const noexcept { return state_->path; }
void* Library::native() const noexcept { return state_->libraries.back().handle(); }
std::vector<std::string> Library::loaded() const { return state_->distributed; }

void* Library::address_of(const std::string& name) const {
  ::dlerror();
  void* const address = ::dlsym(native(), name.c_str());
  if (address == nullptr)
    throw Error(Errc::other, "Library::symbol",
                fmt::format("mpi: Library::symbol: {} has no symbol '{}'", path(), name));
  return address;
}

Library dlopen(const Comm& comm, const std::string& path, const LoadOptions& options) {
  detail::require_active("collective::dlopen");
  return Distributor(comm, "collective::dlopen", options.sharing).load(path, options.global);
}

// --- many at once
// -------------------------------------------------------------------------------------------------------------

namespace {

std::vector<std::string> files_below(const std::string& pattern) {
  const std::string before = pattern.substr(0, pattern.find("**"));
  const auto slash = before.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : before.substr(0, slash);
  std::vector<std::string> found;
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    std::string path = entry.path().string();
    if (slash == std::string::npos) path = path.substr(2);  // "./"
    // Without FNM_PATHNAME a * takes folders along; "**/" may also stand for none.
    std::string flat = pattern;
    if (const auto at = flat.find("**/"); at != std::string::npos) flat.erase(at, 3);
    if (entry.is_regular_file() && (::fnmatch(pattern.c_str(), path.c_str(), 0) == 0 ||
                                    ::fnmatch(flat.c_str(), path.c_str(), FNM_PATHNAME) == 0))
      found.push_back(path);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> expand(const std::string& pattern) {
  if (pattern.find("**") != std::string::npos) return files_below(pattern);
  if (pattern.find_first_of("*?[") == std::string::npos) return {pattern};
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return paths;
}

bool is_library(const std::string& path) {
  if (!is_elf(path)) return false;
  try {
    const ElfInfo info = read_elf(path);
    return !info.is_program && (!info.soname.empty() || path.find(".so") != std::string::npos);
  } catch (const manyhands::Error&) {
    return false;  // then it travels as bytes
  }
}

}  // namespace

const FileContents* Preloaded::file(std::string_view path) const noexcept {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const FileContents& f) { return f.path() == path; });
  return found == files.end() ? nullptr : &*found;
}

const Library* Preloaded::library(std::string_view path) const noexcept {
  const auto found =
      std::find_if(libraries.begin(), libraries.end(), [&](const Library& l) { return l.path() == path; });
  return found == libraries.end() ? nullptr : &*found;
}

Preloaded preload(const Comm& comm, const std::vector<std::string>& patterns) {
  detail::require_active("collective::preload");
  Distributor distributor(comm, "collective::preload", Sharing::automatic);
  std::string list;  // of "l" or "f" and a path, each ending with a zero byte
  agree_after(distributor.topology(), patterns.empty() ? "" : patterns.front(),
              distributor.topology().rank == 0, [&]() -> std::optional<Failure> {
                std::set<std::string> seen;
                for (const auto& pattern : patterns) {
                  const auto paths = expand(pattern);
                  if (paths.empty())
                    return Failure{Errc::no_such_file, fmt::format("nothing matches {}", pattern)};
                  for (const auto& path : paths) {
                    if (seen.insert(path).second) list += (is_library(path) ? 'l' : 'f') + path + '\0';
                  }
                }
                return std::nullopt;
              });
  broadcast_text(comm.native(), "collective::preload", list);
  Preloaded loaded;
  for (std::size_t start = 0, end; (end = list.find('\0', start)) != std::string::npos; start = end + 1) {
    const std::string path = list.substr(start + 1, end - start - 1);
    if (list[start] == 'l')
      loaded.libraries.push_back(distributor.load(path, true));
    else
      loaded.files.push_back(distributor.read(path));
  }
  return loaded;
}

}  // namespace manyhands::mpi::collective
