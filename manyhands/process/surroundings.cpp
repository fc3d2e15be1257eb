#include "manyhands/process/surroundings.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <clocale>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>

#include "manyhands/base/error.hpp"
#include "manyhands/base/mutex.hpp"
#include "manyhands/shm/block.hpp"

namespace manyhands::process {
namespace {

constexpr std::uint32_t unknown_umask = 0xffff'ffff;

// Layout of the block:  [ Fixed ][ environment ][ C locale ][ C++ locale ], texts with their final zeros.
struct Fixed {
  std::array<rlimit, RLIM_NLIMITS> limits;
  std::int32_t niceness;
  std::uint32_t umask;  // or unknown_umask
  std::uint64_t environment_size;
  std::uint64_t locale_size;
  std::uint64_t cpp_locale_size;
};

// As /proc tells it: to ask the system is to change it for an instant, also for other threads.
std::uint32_t current_umask() noexcept {
  const UniqueFd status(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  std::array<char, 512> text{};  // it is the second line
  const ssize_t size = status ? ::read(status.get(), text.data(), text.size() - 1) : -1;
  const char* const line = size > 0 ? std::strstr(text.data(), "\nUmask:") : nullptr;
  if (line == nullptr) return unknown_umask;
  return static_cast<std::uint32_t>(std::strtoul(line + std::strlen("\nUmask:"), nullptr, 8));
}

std::string current_environment() {
  std::string text;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    text += *variable;
    text += '\0';
  }
  return text;
}

std::string describe() {
  Fixed fixed;
  std::memset(&fixed, 0, sizeof fixed);  // it is compared as bytes
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
    static_cast<void>(::getrlimit(static_cast<__rlimit_resource_t>(resource),
                                  &fixed.limits[static_cast<std::size_t>(resource)]));
  }
  fixed.niceness = ::getpriority(PRIO_PROCESS, 0);
  fixed.umask = current_umask();
  const std::string environment = current_environment();
  const char* const c_locale = std::setlocale(LC_ALL, nullptr);
  const std::string locale = std::string(c_locale != nullptr ? c_locale : "C") + '\0';
  const std::string cpp_locale = std::locale().name() + '\0';  // "*": it has none
  fixed.environment_size = environment.size();
  fixed.locale_size = locale.size();
  fixed.cpp_locale_size = cpp_locale.size();
  std::string text(reinterpret_cast<const char*>(&fixed), sizeof fixed);
  return text + environment + locale + cpp_locale;
}

struct Last {
  Mutex mutex;
  std::string text MH_GUARDED_BY(mutex);
  shm::BlockPtr block MH_GUARDED_BY(mutex);
};
Last& last() {
  static Last* const instance = new Last;  // never destroyed: pools may be made until the very end
  return *instance;
}

// The parts of a captured block, all within it; nullopt if it is none.
struct Parts {
  Fixed fixed;
  std::string_view environment;
  const char* locale;
  const char* cpp_locale;
};
std::optional<Parts> parts_of(shm::Offset block) {
  if (block == 0 || !shm::is_block(block, shm::BlockKind::raw)) return std::nullopt;
  const auto* const text = reinterpret_cast<const char*>(shm::address_of_block(block));
  const std::uint64_t size = shm::header_of(block).size;
  Parts parts;
  if (size < sizeof parts.fixed) return std::nullopt;
  std::memcpy(&parts.fixed, text, sizeof parts.fixed);
  const std::uint64_t rest = size - sizeof parts.fixed;
  const Fixed& fixed = parts.fixed;
  if (fixed.environment_size > rest || fixed.locale_size > rest || fixed.cpp_locale_size > rest ||
      fixed.environment_size + fixed.locale_size + fixed.cpp_locale_size != rest || fixed.locale_size == 0 ||
      fixed.cpp_locale_size == 0)
    return std::nullopt;
  const char* const environment = text + sizeof parts.fixed;
  parts.environment = {environment, fixed.environment_size};
  parts.locale = environment + fixed.environment_size;
  parts.cpp_locale = parts.locale + fixed.locale_size;
  if (parts.locale[fixed.locale_size - 1] != '\0' || parts.cpp_locale[fixed.cpp_locale_size - 1] != '\0' ||
      (!parts.environment.empty() && parts.environment.back() != '\0'))
    return std::nullopt;
  return parts;
}

void apply_environment(std::string_view environment) {
  if (current_environment() == environment) return;
  ::clearenv();
  while (!environment.empty()) {
    const std::string_view variable = environment.substr(0, environment.find('\0'));
    environment.remove_prefix(variable.size() + 1);
    char* const copy = ::strndup(variable.data(), variable.size());
    // The string belongs to the environment from here on, if it takes it.
    if (copy != nullptr && ::putenv(copy) != 0) std::free(copy);
  }
}

void apply_locale(const Parts& parts) {
  const char* const now = std::setlocale(LC_ALL, nullptr);
  if (now == nullptr || std::strcmp(now, parts.locale) != 0) std::setlocale(LC_ALL, parts.locale);
  const std::string_view cpp = parts.cpp_locale;
  if (cpp == "*" || cpp == std::locale().name()) return;
  std::locale::global(std::locale(parts.cpp_locale));
}

}  // namespace

Surroundings capture_surroundings() {
  std::string text = describe();
  UniqueFd directory(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  Last& kept = last();
  const MutexLock lock(kept.mutex);
  if (kept.block == nullptr || kept.text != text) {
    kept.block = shm::Block::create(text.size(), shm::BlockKind::raw);
    std::memcpy(kept.block->data(), text.data(), text.size());
    kept.text = std::move(text);
  }
  return {.block = kept.block, .directory = std::move(directory)};
}

void apply_surroundings(shm::Offset block, int directory) noexcept {
  try {
    if (directory >= 0) static_cast<void>(!::fchdir(directory));
    const auto parts = parts_of(block);
    if (!parts) return;
    for (int resource = 0; resource < RLIM_NLIMITS; ++resource) {
      const rlimit& wanted = parts->fixed.limits[static_cast<std::size_t>(resource)];
      rlimit now{};
      const auto which = static_cast<__rlimit_resource_t>(resource);
      if (::getrlimit(which, &now) == 0 &&
          (now.rlim_cur != wanted.rlim_cur || now.rlim_max != wanted.rlim_max))
        static_cast<void>(::setrlimit(which, &wanted));
    }
    if (::getpriority(PRIO_PROCESS, 0) != parts->fixed.niceness)
      static_cast<void>(::setpriority(PRIO_PROCESS, 0, parts->fixed.niceness));
    if (parts->fixed.umask != unknown_umask) ::umask(static_cast<mode_t>(parts->fixed.umask));
    apply_environment(parts->environment);
    apply_locale(*parts);
  } catch (...) {  // no memory for an environment, or a locale that is not installed any more: as it was
  }
}

void apply_locale(shm::Offset block) noexcept {
  try {
    if (const auto parts = parts_of(block)) apply_locale(*parts);
  } catch (...) {  // not installed any more: as it was
  }
}

Credentials own_credentials() {
  Credentials own;
  ::getresuid(&own.real_user, &own.user, &own.saved_user);
  ::getresgid(&own.real_group, &own.group, &own.saved_group);
  const int count = ::getgroups(0, nullptr);
  if (count > 0) {
    own.groups.resize(static_cast<std::size_t>(count));
    own.groups.resize(static_cast<std::size_t>(std::max(0, ::getgroups(count, own.groups.data()))));
  }
  std::sort(own.groups.begin(), own.groups.end());
  return own;
}

std::optional<Credentials> credentials_of(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  Credentials found;
  int lines = 0;
  for (std::string line; std::getline(status, line);) {
    std::istringstream fields(line.substr(std::min(line.size(), line.find(':') + 1)));
    if (line.starts_with("Uid:"))
      lines += (fields >> found.real_user >> found.user >> found.saved_user) ? 1 : 0;
    if (line.starts_with("Gid:"))
      lines += (fields >> found.real_group >> found.group >> found.saved_group) ? 1 : 0;
    if (line.starts_with("Groups:")) {
      for (gid_t group = 0; fields >> group;) found.groups.push_back(group);
      ++lines;
    }
  }
  if (lines != 3) return std::nullopt;
  std::sort(found.groups.begin(), found.groups.end());
  return found;
}

void adopt_credentials(const Credentials& credentials) {
  if (credentials == own_credentials()) return;
  // Groups first: without root they cannot be changed any more.
  if (::setgroups(credentials.groups.size(), credentials.groups.data()) != 0 ||
      ::setresgid(credentials.real_group, credentials.group, credentials.saved_group) != 0 ||
      ::setresuid(credentials.real_user, credentials.user, credentials.saved_user) != 0) {
    throw_errno(
        fmt::format("become user {} with group {}, as the program has", credentials.user, credentials.group));
  }
}

}  // namespace manyhands::process
