#include "manyhands/base/pidfd.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace manyhands {
namespace {

// From <linux/pidfd.h> of Linux 6.15; the system's headers may be older.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::uint32_t pid, tgid, ppid;
  std::uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long get_info = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t has_exit_code = 1 << 3;

}  // namespace

UniqueFd open_pidfd(pid_t pid) noexcept {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool send_signal(const UniqueFd& pidfd, int number) noexcept {
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), number, nullptr, 0) == 0;
}

std::optional<int> status_of_reaped(const UniqueFd& pidfd) noexcept {
  constexpr int tries = 20;  // milliseconds
  for (int i = 0; pidfd && i < tries; ++i) {
    PidfdInfo info{.mask = has_exit_code};
    if (::ioctl(pidfd.get(), get_info, &info) != 0) return std::nullopt;
    if ((info.mask & has_exit_code) != 0) return info.exit_code;
    pollfd reaped{.fd = pidfd.get(), .events = 0, .revents = 0};  // POLLHUP
    ::poll(&reaped, 1, 1);
  }
  return std::nullopt;
}

}  // namespace manyhands
