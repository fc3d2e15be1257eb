#include "manyhands/process/fresh_start.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "manyhands/base/error.hpp"
#include "manyhands/shm/heap.hpp"

namespace manyhands::process {
namespace {

constexpr std::string_view guest_argument = "--manyhands-guest=";  // DEVICE,INODE of the library
constexpr std::string_view preload_variable = "LD_PRELOAD";

struct Guest {
  std::string library;  // its file; empty if it is the program itself
  std::string argument;
};
std::optional<Guest>& guest() noexcept {
  static std::optional<Guest> instance;
  return instance;
}

// The file of the library, or program, that holds this code.
std::string own_file() {
  Dl_info info{};
  std::array<char, PATH_MAX> path{};
  if (::dladdr(reinterpret_cast<const void*>(&start_as_guest), &info) == 0 || info.dli_fname == nullptr)
    return {};
  return ::realpath(info.dli_fname, path.data()) != nullptr ? path.data() : std::string();
}

std::string argument_for(const std::string& file) {
  struct stat what{};
  if (::stat(file.c_str(), &what) != 0) return {};
  return fmt::format("{}{},{}", guest_argument, what.st_dev, what.st_ino);
}

bool is_variable(std::string_view entry, std::string_view name) noexcept {
  return entry.starts_with(name) && entry.size() > name.size() && entry[name.size()] == '=';
}

}  // namespace

FreshStart::FreshStart(std::string argument, std::initializer_list<int> fds) : fds_(fds) {
  arguments_.emplace_back("manyhands-worker");
  if (guest()) arguments_.push_back(guest()->argument);
  arguments_.push_back(std::move(argument));
  fds_.push_back(shm::heap_fd());
  std::string preload = guest() ? guest()->library : std::string();
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (is_variable(*entry, shm::heap_variable)) continue;
    if (!preload.empty() && is_variable(*entry, preload_variable)) {
      preload += ':';
      preload += *entry + preload_variable.size() + 1;
      continue;
    }
    environment_.emplace_back(*entry);
  }
  environment_.push_back(fmt::format("{}={}", shm::heap_variable, shm::heap_fd()));
  if (!preload.empty()) environment_.push_back(fmt::format("{}={}", preload_variable, preload));
  for (auto& text : arguments_) argv_.push_back(text.data());
  for (auto& text : environment_) envp_.push_back(text.data());
  argv_.push_back(nullptr);
  envp_.push_back(nullptr);
}

void FreshStart::exec() const noexcept {
  for (const int fd : fds_) ::fcntl(fd, F_SETFD, 0);
  ::execve("/proc/self/exe", argv_.data(), envp_.data());
}

void start_as_guest() {
  if (guest()) return;
  Guest me{.library = own_file(), .argument = {}};
  if (me.library.empty())
    throw Error("mh::init_in_host: the file of the library that calls it cannot be found any more");
  me.argument = argument_for(me.library);
  std::array<char, PATH_MAX> program{};
  if (::realpath("/proc/self/exe", program.data()) != nullptr && me.library == program.data())
    me.library.clear();
  if (me.library.find_first_of(": ") != std::string::npos) {
    throw Error(
        fmt::format("mh::init_in_host: the path of the library, '{}', has a space or a colon in it, with "
                    "which LD_PRELOAD "
                    "cannot name it",
                    me.library));
  }
  // What runs in threads of ours must stay where it is.
  if (!me.library.empty()) ::dlopen(me.library.c_str(), RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  guest() = std::move(me);
}

bool is_guest() noexcept { return guest().has_value(); }

namespace {

using Constructor = void (*)(int, char**, char**);

struct Constructors {
  std::uintptr_t me = 0;  // an address in the library looked for
  const Constructor* begin = nullptr;
  const Constructor* end = nullptr;
};

int find_constructors(dl_phdr_info* info, std::size_t, void* result) {
  auto& found = *static_cast<Constructors*>(result);
  bool is_mine = false;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    const auto begin = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && found.me >= begin && found.me < begin + header.p_memsz) is_mine = true;
    if (header.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(begin);
  }
  if (!is_mine || dynamic == nullptr) return 0;
  std::size_t size = 0;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    if (dynamic->d_tag == DT_INIT_ARRAY)
      found.begin = reinterpret_cast<const Constructor*>(info->dlpi_addr + dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_INIT_ARRAYSZ) size = dynamic->d_un.d_val / sizeof(Constructor);
  }
  if (found.begin != nullptr) found.end = found.begin + size;
  return 1;
}

// Where a fresh start of a guest leaves the way to the program's main. It runs the constructors of its
// library that come after it, since it does not return to have them run.
[[gnu::constructor]] void divert_guest(int argc, char** argv, char** envp) {
  if (argc != 3 || !std::string_view(argv[1]).starts_with(guest_argument)) return;
  const std::string file = own_file();
  if (argument_for(file) != argv[1]) return;  // another library's
  Constructors all{.me = reinterpret_cast<std::uintptr_t>(&find_constructors)};
  ::dl_iterate_phdr(find_constructors, &all);
  const Constructor* next = all.begin;
  while (next != all.end && *next != &divert_guest) ++next;
  if (next == all.end) return;
  for (++next; next != all.end; ++next) (*next)(argc, argv, envp);
  std::string preload =
      std::getenv(preload_variable.data()) != nullptr ? std::getenv(preload_variable.data()) : "";
  guest() = Guest{.library = preload.starts_with(file) ? file : std::string(), .argument = argv[1]};
  if (!guest()->library.empty()) {  // not for what tasks start
    preload.erase(0, file.size() + 1);
    if (preload.empty()) {
      ::unsetenv(preload_variable.data());
    } else {
      ::setenv(preload_variable.data(), preload.c_str(), 1);
    }
  }
  become(argv[2]);
}

}  // namespace
}  // namespace manyhands::process
