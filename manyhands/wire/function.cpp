#include "manyhands/wire/function.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fmt/core.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "manyhands/base/mutex.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

struct Module {
  BuildId id;
  std::uintptr_t base = 0;   // what offsets count from
  std::uintptr_t begin = 0;  // loaded addresses [begin, end)
  std::uintptr_t end = 0;
  std::string path;
  bool is_main = false;
};

std::optional<BuildId> id_in_notes(const std::byte* notes, std::size_t size) {
  std::size_t at = 0;
  while (at + sizeof(ElfW(Nhdr)) <= size) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes + at, sizeof note);
    const std::size_t name = at + sizeof note;
    const std::size_t desc = name + round_up(note.n_namesz, 4);
    if (desc + note.n_descsz > size) return std::nullopt;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(notes + name, "GNU", 4) == 0) {
      BuildId id;
      std::memcpy(id.bytes.data(), notes + desc, std::min<std::size_t>(note.n_descsz, id.bytes.size()));
      return id;
    }
    at = desc + round_up(note.n_descsz, 4);
  }
  return std::nullopt;
}

BuildId id_of_file(const std::string& path) {
  struct stat info{};
  ::stat(path.c_str(), &info);
  const std::string text =
      fmt::format("{} {} {}", path, info.st_size, info.st_mtim.tv_nsec + info.st_mtim.tv_sec);
  BuildId id;
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    id.bytes[i] = static_cast<std::byte>(hash >> 56);
  }
  return id;
}

int add_module(dl_phdr_info* info, std::size_t, void* list) {
  auto& modules = *static_cast<std::vector<Module>*>(list);
  Module module;
  module.base = info->dlpi_addr;
  module.is_main = modules.empty();  // the main program comes first
  module.path = info->dlpi_name;
  if (module.is_main) {
    std::array<char, 4096> path{};
    const auto size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
    module.path = size > 0 ? std::string(path.data(), static_cast<std::size_t>(size)) : "the main program";
  }
  std::optional<BuildId> id;
  module.begin = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const auto start = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD) {
      module.begin = std::min(module.begin, start);
      module.end = std::max(module.end, start + header.p_memsz);
    } else if (header.p_type == PT_NOTE && !id) {
      id = id_in_notes(reinterpret_cast<const std::byte*>(start), header.p_memsz);
    }
  }
  module.id = id ? *id : id_of_file(module.path);
  modules.push_back(std::move(module));
  return 0;
}

// The loaded modules as of the last look. A process has one set of modules, hence one table for all threads.
class ModuleTable {
 public:
  template <class Match>
  std::optional<Module> find(Match match) MH_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    for (int look = 0; look < 2; ++look) {
      const auto found = std::find_if(modules_.begin(), modules_.end(), match);
      if (found != modules_.end()) return *found;
      modules_.clear();
      ::dl_iterate_phdr(add_module, &modules_);  // something was loaded since, or this is the first look
    }
    return std::nullopt;
  }

 private:
  Mutex mutex_;
  std::vector<Module> modules_ MH_GUARDED_BY(mutex_);
};

ModuleTable& modules() {
  static ModuleTable table;
  return table;
}

std::optional<Module> module_with(const BuildId& id) {
  return modules().find([&](const Module& module) { return module.id == id; });
}

}  // namespace

std::string BuildId::hex() const {
  std::string text;
  for (const auto byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

Function function_at(const void* address) {
  const auto place = reinterpret_cast<std::uintptr_t>(address);
  const auto module = modules().find(
      [&](const Module& candidate) { return place >= candidate.begin && place < candidate.end; });
  if (!module) {
    throw WireError(
        fmt::format("the function at {} lies in no loaded module, so another process cannot find it; "
                    "only functions of the program and its shared libraries can be sent",
                    address));
  }
  return {.module = module->id, .offset = place - module->base};
}

const void* address_of(const Function& function) {
  const auto module = module_with(function.module);
  if (!module) {
    const auto main =
        modules().find([](const Module& candidate) { return candidate.is_main; }).value_or(Module());
    throw WireError(
        fmt::format("the task's function is in build {}, which is not loaded here; this process runs {} "
                    "(build {}). Start workers from the same executable, and load libraries before mh::init",
                    function.module.hex(), main.path, main.id.hex()));
  }
  if (function.offset >= module->end - module->base) {
    throw WireError(fmt::format("the task's function lies at offset {:#x}, beyond the end of {}",
                                function.offset, module->path));
  }
  return reinterpret_cast<const void*>(module->base + function.offset);
}

std::string path_of(const BuildId& id) {
  const auto module = module_with(id);
  return module ? module->path : std::string();
}

std::string describe(const Function& function) {
  const auto module = module_with(function.module);
  if (!module) return fmt::format("{:#x} in build {}", function.offset, function.module.hex());
  const auto address = module->base + function.offset;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(address), &info) == 0 || info.dli_sname == nullptr) {
    return fmt::format("{:#x} in {}", function.offset, module->path);
  }
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status), std::free);
  return fmt::format("{}+{:#x} in {}", name ? name.get() : info.dli_sname,
                     address - reinterpret_cast<std::uintptr_t>(info.dli_saddr), module->path);
}

void Codec<Function>::pack(Writer& writer, const Function& function) {
  std::array<std::byte, 28> body;
  std::memcpy(body.data(), function.module.bytes.data(), 20);
  std::memcpy(body.data() + 20, &function.offset, 8);
  writer.ext(ext::function, body);
}

Function Codec<Function>::unpack(Reader& reader) {
  const ExtView view = reader.ext();
  if (view.type != ext::function || view.body.size() != 28)
    reader.reject("expected a function (28 bytes: build-id and offset)");
  Function function;
  std::memcpy(function.module.bytes.data(), view.body.data(), 20);
  std::memcpy(&function.offset, view.body.data() + 20, 8);
  return function;
}

}  // namespace manyhands::wire
