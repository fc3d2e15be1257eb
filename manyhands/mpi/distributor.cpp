#include "manyhands/mpi/distributor.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <tuple>
#include <utility>
#include <vector>

#include "manyhands/base/memory.hpp"

namespace manyhands::mpi::collective {
namespace {

constexpr std::size_t chunk_bytes = 4 << 20;

MPI_Comm split_node(MPI_Comm comm, const char* operation) {
  int key = 0;
  MPI_Comm_rank(comm, &key);
  MPI_Comm node = MPI_COMM_NULL;
  detail::check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, key, MPI_INFO_NULL, &node), operation);
  return node;
}

MPI_Comm split_leaders(MPI_Comm comm, MPI_Comm node, const char* operation) {
  int key = 0;
  int in_node = 0;
  MPI_Comm_rank(comm, &key);
  MPI_Comm_rank(node, &in_node);
  MPI_Comm leaders = MPI_COMM_NULL;
  detail::check(MPI_Comm_split(comm, in_node == 0 ? 0 : MPI_UNDEFINED, key, &leaders), operation);
  return leaders;
}

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
  const std::string name = "manyhands:" + std::filesystem::path(path).filename().string().substr(0, 200);
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

}  // namespace

Failure failure_of(int error, const std::string& what) {
  const Errc code = error == ENOENT || error == ENOTDIR ? Errc::no_such_file
                    : error == EACCES || error == EPERM ? Errc::access
                    : error == ENOSPC || error == ENOMEM || error == EMFILE || error == ENFILE
                        ? Errc::no_space
                        : Errc::file;
  return {code, SystemError(what, error).what()};
}

Topology::Topology(MPI_Comm whole, const char* operation)
    : comm(whole),
      name(operation),
      node(split_node(whole, operation)),
      leaders(split_leaders(whole, node.get(), operation)) {
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
}

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

void agree(const Topology& topology, const std::string& path, const std::optional<Failure>& mine) {
  const int vote = mine ? topology.rank : topology.size;
  int first = 0;
  detail::check(MPI_Allreduce(&vote, &first, 1, MPI_INT, MPI_MIN, topology.comm), topology.name,
                {.comm = topology.comm});
  if (first == topology.size) return;
  std::uint64_t header[2] = {0, 0};
  std::string text;
  if (mine && first == topology.rank) {
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

// Rank 0's file.
class Distributor::Source {
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

Distributor::NodeFile Distributor::distribute(const std::string& path) {
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
    try {
      require_memory(size, "a copy of it");
    } catch (const ResourceExhausted& e) {
      return Failure{Errc::no_space, e.what()};
    }
    memory = make_memory(path, size);
    target.emplace(size, PROT_READ | PROT_WRITE, memory.get());
    return std::nullopt;
  });
  std::optional<Failure> failure;
  if (target) failure = fill({target->bytes(), size}, source);
  target.reset();
  agree(topology_, path, failure);
  if (memory) seal(memory);
  return {share(path, std::move(memory), size), size};
}

FileContents Distributor::read(const std::string& path) {
  const NodeFile node_file = distribute(path);
  std::optional<Mapping> mapping;
  agree_after(topology_, path, node_file.size != 0, [&]() -> std::optional<Failure> {
    mapping.emplace(node_file.size, PROT_READ, node_file.file.get());
    return std::nullopt;
  });
  return {path, mapping ? mapping->release() : std::span<const std::byte>()};
}

// From rank 0 to the leaders, piece by piece. Each piece is preceded by whether it could be read.
std::optional<Failure> Distributor::fill(std::span<std::byte> target,
                                         const std::optional<Source>& source) const {
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
UniqueFd Distributor::share(const std::string& path, UniqueFd memory, std::uint64_t size) const {
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
UniqueFd Distributor::open_through_proc(const UniqueFd& memory) const {
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

}  // namespace manyhands::mpi::collective
