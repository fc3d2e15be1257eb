#pragma once
// What an ELF file says about itself and about the libraries it needs, without loading it.
//
// `manyhands run` finds out with it which MPI a program was built for; mpi::collective::dlopen what a library
// needs beside itself. Files come from anywhere: every offset, size and string is checked, a damaged file is
// an ElfError. 64-bit little-endian files only. Sources: System V ABI (gABI 4.1), ld.so(8), glibc's
// sysdeps/generic/dl-cache.h.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/error.hpp"

namespace manyhands {

// The file is no ELF file, or a damaged one, or one for other machines; the message names it and says where.
class ElfError : public Error {
 public:
  using Error::Error;
};

// Value.
struct ElfInfo {
  std::uint16_t machine = 0;         // e.g. EM_X86_64
  bool is_program = false;           // it has an interpreter (ld.so) or is not position-independent
  std::string soname;                // "" if it has none
  std::string build_id;              // in lower-case hex digits, "" if it has none
  std::vector<std::string> needed;   // DT_NEEDED, in the file's order
  std::vector<std::string> rpath;    // folders of DT_RPATH as written: $ORIGIN is not replaced
  std::vector<std::string> runpath;  // those of DT_RUNPATH
};

// Throws ElfError; `name` is what the message calls the file.
ElfInfo parse_elf(ByteView bytes, std::string_view name);
// Reads only the tables, not the whole file. Throws ElfError, or SystemError if it cannot be read.
ElfInfo read_elf(const std::string& path);
// Whether the file begins as an ELF file does; false if it cannot be read.
bool is_elf(const std::string& path) noexcept;

// Where ld.so looks for libraries.
struct LibrarySearch {
  std::string library_path;                // as LD_LIBRARY_PATH: folders between ':' or ';'
  std::string cache = "/etc/ld.so.cache";  // the file that ldconfig writes
  std::vector<std::string> system_folders{"/lib64", "/usr/lib64", "/lib", "/usr/lib"};  // the last resort

  // With this process's LD_LIBRARY_PATH.
  static LibrarySearch of_environment();
};

// A library that an ELF file needs, itself or by way of another.
struct NeededLibrary {
  std::string name;       // as DT_NEEDED has it
  std::string path;       // "" if it was not found
  std::string needed_by;  // the path of the first file that needs it
  // Found by the cache or in a system folder, or not a 64-bit library of this machine.
  bool is_system = false;
  ElfInfo info;  // of the file at `path`; empty if is_system and not asked for
};

// All libraries that the file needs, each once, every library after those that it needs itself (where they do
// not need each other in a circle). `into_system` says whether what system libraries need is followed as
// well. Throws ElfError or SystemError for the file itself; a library that is damaged is passed over, as
// ld.so does.
enum class Follow { all, beside_system };
std::vector<NeededLibrary> needed_libraries(const std::string& path, const LibrarySearch& search,
                                            Follow follow);
// The same for a file whose `info` has been read already.
std::vector<NeededLibrary> needed_libraries(const std::string& path, ElfInfo info,
                                            const LibrarySearch& search, Follow follow);

namespace detail {
// The path that the text of an ld.so.cache has for `name`; "" if it has none or is damaged.
std::string find_in_cache(ByteView cache, std::string_view name, std::uint16_t machine);
}  // namespace detail

}  // namespace manyhands
