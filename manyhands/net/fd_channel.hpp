#pragma once
// FdChannel: one end of a Unix socket pair that carries whole messages and, with them, file descriptors.
//
// Used between a program and its zygote. Messages keep their boundaries (SOCK_SEQPACKET); the other end's
// death is seen as end of file. Peers are processes of the same program: no authentication is needed, nothing
// listens. Source: unix(7), cmsg(3).

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "manyhands/base/bytes.hpp"
#include "manyhands/base/unique_fd.hpp"

namespace manyhands::net {

inline constexpr std::size_t max_channel_message = 1024;  // bytes
inline constexpr std::size_t max_channel_fds = 8;

class FdChannel {
 public:
  // Two connected ends, closed on exec. Throws SystemError.
  static std::pair<FdChannel, FdChannel> make_pair();

  FdChannel() = default;
  explicit FdChannel(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

  // Sends one message with copies of `fds` (at most max_channel_fds). Blocks while the socket is full.
  // Returns false if the other end is gone; throws SystemError otherwise.
  [[nodiscard]] bool send(ByteView message, std::span<const int> fds = {}) const;
  enum class Sent { yes, full, closed };  // full: the other end has not read enough; closed: it is gone
  // The same without blocking.
  [[nodiscard]] Sent try_send(ByteView message, std::span<const int> fds = {}) const;

  // From now on each message that is received here says who sent it, as the kernel knows it. Throws
  // SystemError.
  void ask_for_senders() const;

  struct Sender {
    pid_t pid = 0;
    uid_t uid = 0;  // the real ones
    gid_t gid = 0;
  };
  struct Message {
    std::array<std::byte, max_channel_message> bytes;
    std::size_t size = 0;
    std::vector<UniqueFd> fds;     // fewer than were sent if this process has no descriptors left
    std::optional<Sender> sender;  // after ask_for_senders()
    ByteView view() const noexcept { return {bytes.data(), size}; }
  };
  enum class Received { message, nothing, closed };  // nothing: none waits; closed: the other end is gone
  // Takes the next message without blocking. Throws SystemError.
  [[nodiscard]] Received try_receive(Message& message) const;

  int fd() const noexcept { return fd_.get(); }
  void close() noexcept { fd_.reset(); }

 private:
  Sent send_with(int flags, ByteView message, std::span<const int> fds) const;

  UniqueFd fd_;
};

}  // namespace manyhands::net
