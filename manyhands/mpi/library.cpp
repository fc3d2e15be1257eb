// collective::dlopen and what it gives.

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "manyhands/base/elf.hpp"
#include "manyhands/mpi/collective.hpp"
#include "manyhands/mpi/distributor.hpp"

namespace manyhands::mpi::collective {
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
    const std::filesystem::path candidate =
        std::filesystem::path(end == 0 ? "." : std::string(folders.substr(0, end))) / name;
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

}  // namespace manyhands::mpi::collective
