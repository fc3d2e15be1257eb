#pragma once
// Files and shared libraries for all ranks, with one rank touching the file system: the talk's import
// problem.
//
//   const auto table = mpi::collective::read(world, "table.dat");       // table.bytes(), table.text()
//   const auto library = mpi::collective::dlopen(world, "libplugin.so");
//   double y = library.symbol<double(double)>("f")(0.5);
//
// A thousand ranks that each search their paths and read the same files bring a shared file system down. Here
// rank 0 looks up and reads, the bytes go from node to node in pieces of 4 MiB, and each node keeps one copy,
// in sealed memory without a name that its ranks map (a memfd, opened through /proc; where that is forbidden,
// a file in /dev/shm or TMPDIR that is unlinked at once).
//
// Every function is collective over the communicator: all ranks call it, with the same arguments. So is
// failure: if one rank finds a reason, all throw the same Error, which names that rank and what it found.
// Blocking. Source of the idea: Spindle (LLNL), MPI_Import (A. Langton, 2012).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"

namespace manyhands::mpi::collective {

// How the ranks of a node share a copy.
enum class Sharing : std::uint8_t {
  automatic,  // memory without a name; where that is forbidden, a file that has lost its name
  file,       // the latter at once
};
struct ReadOptions {
  Sharing sharing = Sharing::automatic;
};

// The contents of a file: a read-only mapping of the node's copy, which lives until the last rank of the node
// has dropped it. Resource; const is shareable. Valid also after MPI has ended.
class FileContents {
 public:
  FileContents(FileContents&& other) noexcept;
  FileContents& operator=(FileContents&& other) noexcept;
  ~FileContents();

  // Views of the mapping; of a temporary, copies.
  std::span<const std::byte> bytes() const& noexcept { return bytes_; }
  std::vector<std::byte> bytes() && { return {bytes_.begin(), bytes_.end()}; }
  std::string_view text() const& noexcept {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }
  std::string text() && { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  std::size_t size() const noexcept { return bytes_.size(); }
  // As rank 0 was given it.
  const std::string& path() const& noexcept { return path_; }
  std::string path() && { return std::move(path_); }

 private:
  friend class Distributor;
  FileContents(std::string path, std::span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}

  std::string path_;
  std::span<const std::byte> bytes_;  // the mapping; empty: there is none
};

// The file at `path`, as rank 0 sees it. Throws Error: no_such_file; access (rank 0 may not read it); file (a
// folder, no regular file, it became shorter meanwhile, ...); no_space (a node has no memory for it).
FileContents read(const Comm& comm, const std::string& path, const ReadOptions& options = {});

struct LoadOptions {
  bool global = false;  // its symbols serve libraries that are loaded later (RTLD_GLOBAL)
  Sharing sharing = Sharing::automatic;
};

// A loaded shared library with those that were loaded for it. The last Library that refers to it unloads it,
// unless its code is in use by others. Value; const is shareable.
class Library {
 public:
  // Where rank 0 found it.
  const std::string& path() const noexcept;
  // A function: symbol<double(double)>("f")(0.5); or a variable: *symbol<int>("counter"). The type is the
  // caller's word. Valid as long as the library is loaded. Not collective. Throws Error (other) if there is
  // none of that name.
  template <class T>
    requires(std::is_function_v<T> || std::is_object_v<T>)
  T* symbol(const std::string& name) const {
    return reinterpret_cast<T*>(address_of(name));
  }
  // What dlsym takes.
  void* native() const noexcept;
  // The libraries that were distributed: this one last, before it those that it needs.
  std::vector<std::string> loaded() const;

 private:
  friend class Distributor;
  struct State;
  explicit Library(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  void* address_of(const std::string& name) const;

  std::shared_ptr<const State> state_;
};

// Loads the library on all ranks. A `path` without a slash is looked up as ld.so does it: LD_LIBRARY_PATH,
// then the system's. Rank 0 looks up what the library needs, too (RPATH, RUNPATH, $ORIGIN, LD_LIBRARY_PATH);
// all that lies outside of the system's folders and is not loaded already is distributed, and loaded before
// what needs it. What lies in the system's folders is left to each rank's own loader.
// A library that others need must carry its name (DT_SONAME), by which ld.so recognises it; one without is
// loaded anew by each call. $ORIGIN and dladdr() inside a library that was distributed do not name the
// original file.
// Throws Error: no_such_file (the library, or one that it needs), access, file; other if ld.so refuses it (a
// symbol is missing).
Library dlopen(const Comm& comm, const std::string& path, const LoadOptions& options = {});

// Files that were distributed beforehand, by their paths.
struct Preloaded {
  std::vector<Library> libraries;
  std::vector<FileContents> files;  // what is no shared library

  // The one of that path, null if there is none.
  const FileContents* file(std::string_view path) const noexcept;
  const Library* library(std::string_view path) const noexcept;
};

// Reads files and loads libraries (global: a later ::dlopen of their names finds them). A pattern may have *,
// ?, [...] as in a shell, and ** for folders at any depth; rank 0 expands it. Throws Error (no_such_file) for
// one that matches nothing.
[[nodiscard]] Preloaded preload(const Comm& comm, const std::vector<std::string>& patterns);

}  // namespace manyhands::mpi::collective
