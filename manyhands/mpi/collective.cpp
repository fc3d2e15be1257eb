#include "manyhands/mpi/collective.hpp"

#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/mman.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "manyhands/base/elf.hpp"
#include "manyhands/mpi/distributor.hpp"

namespace manyhands::mpi::collective {

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

namespace {

std::vector<std::string> files_below(const std::string& pattern) {
  const std::string before = pattern.substr(0, pattern.find("**"));
  const auto slash = before.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : before.substr(0, slash);
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           folder, std::filesystem::directory_options::skip_permission_denied)) {
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
