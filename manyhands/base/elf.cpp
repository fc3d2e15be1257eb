#include "manyhands/base/elf.hpp"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "manyhands/base/unique_fd.hpp"

namespace manyhands {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t max_table_bytes = 16 << 20;  // of one table; real ones have a few kilobytes
constexpr std::size_t max_string = 4096;             // a path
constexpr std::uint64_t max_cache_bytes = 64 << 20;

// The bytes of a file, wherever they are.
struct Source {
  std::string name;
  std::uint64_t size = 0;
  // Requires offset + to.size() <= size.
  std::function<void(std::uint64_t offset, std::span<std::byte> to)> read;

  [[noreturn]] void fail(const std::string& what) const { throw ElfError(fmt::format("{}: {}", name, what)); }

  void take(std::uint64_t offset, std::span<std::byte> to, const char* what) const {
    if (offset > size || to.size() > size - offset) {
      fail(fmt::format("damaged ELF file: {} ({} bytes at {}) lies beyond the end of the file ({} bytes)",
                       what, to.size(), offset, size));
    }
    read(offset, to);
  }

  template <class T>
  T value(std::uint64_t offset, const char* what) const {
    T result;
    take(offset, std::as_writable_bytes(std::span(&result, 1)), what);
    return result;
  }

  template <class T>
  std::vector<T> table(std::uint64_t offset, std::uint64_t bytes, const char* what) const {
    if (bytes > max_table_bytes) fail(fmt::format("damaged ELF file: {} has {} bytes", what, bytes));
    std::vector<T> result(bytes / sizeof(T));
    take(offset, std::as_writable_bytes(std::span(result)), what);
    return result;
  }
};

std::vector<std::string> split(std::string_view text, const char* separators) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto end = std::min(text.find_first_of(separators), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// The dynamic section: addresses of tables, offsets of strings.
class Dynamic {
 public:
  Dynamic(const Source& source, const std::vector<Elf64_Phdr>& segments, const Elf64_Phdr& segment)
      : source_(source), segments_(segments) {
    entries_ = source.table<Elf64_Dyn>(segment.p_offset, segment.p_filesz, "the dynamic section");
    const auto end =
        std::find_if(entries_.begin(), entries_.end(), [](const Elf64_Dyn& e) { return e.d_tag == DT_NULL; });
    entries_.erase(end, entries_.end());
  }

  std::vector<std::string> strings(Elf64_Sxword tag) const {
    std::vector<std::string> found;
    for (const Elf64_Dyn& entry : entries_) {
      if (entry.d_tag == tag) found.push_back(string_at(entry.d_un.d_val));
    }
    return found;
  }

 private:
  std::optional<std::uint64_t> number(Elf64_Sxword tag) const {
    for (const Elf64_Dyn& entry : entries_) {
      if (entry.d_tag == tag) return entry.d_un.d_val;
    }
    return std::nullopt;
  }

  std::uint64_t offset_of(std::uint64_t address) const {
    for (const Elf64_Phdr& segment : segments_) {
      if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
          address - segment.p_vaddr < segment.p_filesz)
        return segment.p_offset + (address - segment.p_vaddr);
    }
    source_.fail(fmt::format("damaged ELF file: no segment holds the string table's address {:#x}", address));
  }

  std::string string_at(std::uint64_t index) const {
    const auto table = number(DT_STRTAB);
    const auto size = number(DT_STRSZ);
    if (!table || !size) source_.fail("damaged ELF file: the dynamic section names no string table");
    if (index >= *size)
      source_.fail(fmt::format("damaged ELF file: string {} of a table of {} bytes", index, *size));
    const std::uint64_t start = offset_of(*table);
    if (start > source_.size || index > source_.size - start)
      source_.fail("damaged ELF file: the string table lies beyond the end of the file");
    const std::uint64_t left =
        std::min({*size - index, source_.size - start - index, std::uint64_t{max_string}});
    std::string text(left, '\0');
    source_.take(start + index, std::as_writable_bytes(std::span(text)), "a string");
    const auto end = text.find('\0');
    if (end == std::string::npos)
      source_.fail(fmt::format("damaged ELF file: string {} does not end", index));
    text.resize(end);
    return text;
  }

  const Source& source_;
  const std::vector<Elf64_Phdr>& segments_;
  std::vector<Elf64_Dyn> entries_;
};

// The build-id among the notes of one segment; "" if it is not there.
std::string build_id_in(const Source& source, const Elf64_Phdr& segment) {
  const auto bytes = source.table<std::byte>(segment.p_offset, segment.p_filesz, "a note segment");
  const std::size_t alignment = segment.p_align == 8 ? 8 : 4;
  for (std::size_t at = 0; at + sizeof(Elf64_Nhdr) <= bytes.size();) {
    Elf64_Nhdr note;
    std::memcpy(&note, bytes.data() + at, sizeof note);
    const std::size_t name = at + sizeof note;
    const std::size_t text = round_up(name + note.n_namesz, alignment);
    const std::size_t next = round_up(text + note.n_descsz, alignment);
    if (text > bytes.size() || note.n_descsz > bytes.size() - text)
      source.fail("damaged ELF file: a note is longer than its segment");
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
        std::memcmp(bytes.data() + name, "GNU", 4) == 0) {
      std::string hex;
      for (std::size_t i = 0; i < note.n_descsz; ++i)
        hex += fmt::format("{:02x}", std::to_integer<unsigned>(bytes[text + i]));
      return hex;
    }
    at = next;
  }
  return {};
}

ElfInfo parse(const Source& source) {
  unsigned char ident[EI_NIDENT]{};
  if (source.size < sizeof ident) source.fail("no ELF file: it is too short");
  source.take(0, std::as_writable_bytes(std::span(ident)), "the header");
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0) source.fail("no ELF file");
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
    source.fail("an ELF file, but not a 64-bit little-endian one");
  const auto header = source.value<Elf64_Ehdr>(0, "the header");
  if (header.e_phnum > 0 && header.e_phentsize != sizeof(Elf64_Phdr))
    source.fail(fmt::format("damaged ELF file: program headers of {} bytes", header.e_phentsize));
  const auto segments = source.table<Elf64_Phdr>(
      header.e_phoff, std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr), "the program headers");

  ElfInfo info;
  info.machine = header.e_machine;
  info.is_program = header.e_type == ET_EXEC;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_INTERP) info.is_program = true;
    if (segment.p_type == PT_NOTE && info.build_id.empty()) info.build_id = build_id_in(source, segment);
    if (segment.p_type != PT_DYNAMIC) continue;
    const Dynamic dynamic(source, segments, segment);
    info.needed = dynamic.strings(DT_NEEDED);
    if (const auto soname = dynamic.strings(DT_SONAME); !soname.empty()) info.soname = soname.front();
    for (const auto& text : dynamic.strings(DT_RPATH)) info.rpath = split(text, ":");
    for (const auto& text : dynamic.strings(DT_RUNPATH)) info.runpath = split(text, ":");
  }
  return info;
}

Source source_of(const std::string& path, const UniqueFd& file) {
  struct stat about{};
  if (!file || ::fstat(file.get(), &about) != 0) throw_errno(fmt::format("open {}", path));
  if (S_ISDIR(about.st_mode)) throw SystemError(fmt::format("read {}", path), EISDIR);
  const int fd = file.get();
  return {path, static_cast<std::uint64_t>(about.st_size),
          [fd, path](std::uint64_t offset, std::span<std::byte> to) {
            while (!to.empty()) {
              const ssize_t got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
              if (got < 0 && errno == EINTR) continue;
              if (got < 0) throw_errno(fmt::format("read {}", path));
              if (got == 0) throw ElfError(fmt::format("{}: it became shorter while it was read", path));
              to = to.subspan(static_cast<std::size_t>(got));
              offset += static_cast<std::uint64_t>(got);
            }
          }};
}

UniqueFd open_to_read(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

std::vector<std::byte> contents_of(const std::string& path) {
  const UniqueFd file = open_to_read(path);
  if (!file) return {};
  const Source source = source_of(path, file);
  if (source.size > max_cache_bytes) return {};
  std::vector<std::byte> bytes(source.size);
  source.take(0, bytes, "the file");
  return bytes;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

// One look-up of the libraries below a file, breadth first as ld.so does it.
class Lookup {
 public:
  Lookup(const LibrarySearch& search, Follow follow, std::uint16_t machine)
      : search_(search), follow_(follow), machine_(machine), cache_(contents_of(search.cache)) {}

  // Requires: `files_` holds the file itself.
  std::vector<NeededLibrary> run(const std::string& path, ElfInfo info) {
    files_.push_back(
        {{.name = "", .path = path, .needed_by = "", .is_system = false, .info = std::move(info)}, 0});
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const File current = files_[i];  // a copy: files_ grows
      if (current.library.path.empty() || (current.library.is_system && follow_ == Follow::beside_system))
        continue;
      for (const auto& name : current.library.info.needed) {
        if (!is_known(name)) files_.push_back({find(name, i), i});
      }
    }
    return dependencies_first();
  }

 private:
  struct File {
    NeededLibrary library;
    std::size_t loader;  // index into files_ of who needed it first
  };

  bool is_known(const std::string& name) const {
    return std::any_of(files_.begin() + 1, files_.end(),
                       [&](const File& f) { return f.library.name == name; });
  }

  // The library at `path` if it is one for this machine.
  bool take(const std::string& path, NeededLibrary& into) const {
    const UniqueFd file = open_to_read(path);
    if (!file) return false;
    try {
      ElfInfo info = parse(source_of(path, file));
      if (info.machine != machine_) return false;
      into.path = path;
      into.info = std::move(info);
      return true;
    } catch (const Error&) {
      return false;  // ld.so goes on with the next folder, too
    }
  }

  bool take_from(const std::vector<std::string>& folders, const std::string& origin,
                 NeededLibrary& into) const {
    for (std::string folder : folders) {
      for (const char* token : {"${ORIGIN}", "$ORIGIN"}) replace_all(folder, token, origin);
      for (const char* token : {"${LIB}", "$LIB"}) replace_all(folder, token, "lib");
      if (take((folder.empty() ? "." : folder) + "/" + into.name, into)) return true;
    }
    return false;
  }

  static std::string folder_of(const std::string& path) {
    std::error_code error;
    const fs::path real = fs::weakly_canonical(path, error);
    return error ? fs::path(path).parent_path().string() : real.parent_path().string();
  }

  NeededLibrary find(const std::string& name, std::size_t loader) const {
    const NeededLibrary& by = files_[loader].library;
    NeededLibrary found{.name = name, .path = "", .needed_by = by.path, .is_system = false, .info = {}};
    if (name.find('/') != std::string::npos) {
      take(name, found);
      return found;
    }
    if (by.info.runpath.empty()) {
      for (std::size_t i = loader;; i = files_[i].loader) {  // RPATHs up to the file itself
        const NeededLibrary& file = files_[i].library;
        if (file.info.runpath.empty() && take_from(file.info.rpath, folder_of(file.path), found))
          return found;
        if (i == 0) break;
      }
    }
    if (take_from(split(search_.library_path, ":;"), folder_of(by.path), found)) return found;
    if (take_from(by.info.runpath, folder_of(by.path), found)) return found;
    found.is_system = true;
    const std::string cached = detail::find_in_cache(cache_, name, machine_);
    if (!cached.empty() && take(cached, found)) return found;
    if (take_from(search_.system_folders, "/", found)) return found;
    found.is_system = false;
    return found;
  }

  std::vector<NeededLibrary> dependencies_first() {
    std::vector<NeededLibrary> order;
    std::vector<bool> seen(files_.size(), false);
    const std::function<void(std::size_t)> visit = [&](std::size_t i) {
      seen[i] = true;
      for (const auto& name : files_[i].library.info.needed) {
        for (std::size_t k = 1; k < files_.size(); ++k) {
          if (files_[k].library.name == name && !seen[k]) visit(k);
        }
      }
      if (i != 0) order.push_back(files_[i].library);
    };
    visit(0);
    return order;
  }

  const LibrarySearch& search_;
  Follow follow_;
  std::uint16_t machine_;
  std::vector<std::byte> cache_;
  std::vector<File> files_;  // [0]: the file itself
};

// The entries of glibc's cache (dl-cache.h, "struct cache_file_new").
struct CacheHeader {
  char magic[20];
  std::uint32_t count;
  std::uint32_t string_bytes;
  std::uint32_t unused[5];
};
struct CacheEntry {
  std::int32_t flags;
  std::uint32_t key;  // offsets from the header's beginning
  std::uint32_t value;
  std::uint32_t os_version;
  std::uint64_t hardware;
};
static_assert(sizeof(CacheHeader) == 48 && sizeof(CacheEntry) == 24);

std::string_view string_in(ByteView bytes, std::size_t offset) {
  if (offset >= bytes.size()) return {};
  const std::string_view rest = as_text(bytes.subspan(offset));
  const auto end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
}

}  // namespace

ElfInfo parse_elf(ByteView bytes, std::string_view name) {
  return parse({std::string(name), bytes.size(), [bytes](std::uint64_t offset, std::span<std::byte> to) {
                  std::copy_n(bytes.data() + offset, to.size(), to.data());
                }});
}

ElfInfo read_elf(const std::string& path) {
  const UniqueFd file = open_to_read(path);
  return parse(source_of(path, file));
}

bool is_elf(const std::string& path) noexcept {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  char magic[SELFMAG];
  return file && ::pread(file.get(), magic, sizeof magic, 0) == static_cast<ssize_t>(sizeof magic) &&
         std::memcmp(magic, ELFMAG, SELFMAG) == 0;
}

LibrarySearch LibrarySearch::of_environment() {
  LibrarySearch search;
  if (const char* folders = std::getenv("LD_LIBRARY_PATH")) search.library_path = folders;
  return search;
}

std::vector<NeededLibrary> needed_libraries(const std::string& path, const LibrarySearch& search,
                                            Follow follow) {
  return needed_libraries(path, read_elf(path), search, follow);
}

std::vector<NeededLibrary> needed_libraries(const std::string& path, ElfInfo info,
                                            const LibrarySearch& search, Follow follow) {
  const std::uint16_t machine = info.machine;
  return Lookup(search, follow, machine).run(path, std::move(info));
}

std::string detail::find_in_cache(ByteView cache, std::string_view name, std::uint16_t machine) {
  constexpr std::string_view magic = "glibc-ld.so.cache1.1";
  const auto start = as_text(cache).find(magic);  // an older cache may stand in front of it
  if (start == std::string_view::npos) return {};
  cache = cache.subspan(start);
  if (cache.size() < sizeof(CacheHeader)) return {};
  CacheHeader header;
  std::memcpy(&header, cache.data(), sizeof header);
  const std::int32_t wanted =
      machine == EM_AARCH64 ? 0x0a03 : 0x0303;  // FLAG_AARCH64_LIB64, FLAG_X8664_LIB64 | ELF_LIBC6
  for (std::size_t i = 0; i < header.count; ++i) {
    const std::size_t at = sizeof header + i * sizeof(CacheEntry);
    if (at + sizeof(CacheEntry) > cache.size()) return {};
    CacheEntry entry;
    std::memcpy(&entry, cache.data() + at, sizeof entry);
    if (entry.flags == wanted && string_in(cache, entry.key) == name)
      return std::string(string_in(cache, entry.value));
  }
  return {};
}

}  // namespace manyhands
