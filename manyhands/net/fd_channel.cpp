#include "manyhands/net/fd_channel.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "manyhands/base/error.hpp"

namespace manyhands::net {
namespace {

// Space for the control messages of max_channel_fds descriptors and a sender, aligned as the kernel wants it.
union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(max_channel_fds * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
};

}  // namespace

std::pair<FdChannel, FdChannel> FdChannel::make_pair() {
  fill_standard_descriptors();
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0)
    throw_errno("create a socket pair");
  return {FdChannel(UniqueFd(fds[0])), FdChannel(UniqueFd(fds[1]))};
}

bool FdChannel::send(ByteView message, std::span<const int> fds) const {
  return send_with(0, message, fds) == Sent::yes;
}

FdChannel::Sent FdChannel::try_send(ByteView message, std::span<const int> fds) const {
  return send_with(MSG_DONTWAIT, message, fds);
}

void FdChannel::ask_for_senders() const {
  const int on = 1;
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    throw_errno("have a socket name the senders of its messages");
}

FdChannel::Sent FdChannel::send_with(int flags, ByteView message, std::span<const int> fds) const {
  if (message.empty() || message.size() > max_channel_message || fds.size() > max_channel_fds) {
    throw Error("a channel message must have 1 to 1024 bytes and at most 8 descriptors");
  }
  iovec part{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (!fds.empty()) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(first), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(fd_.get(), &header, MSG_NOSIGNAL | flags) >= 0) return Sent::yes;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Sent::full;
    if (errno == EPIPE || errno == ECONNRESET) return Sent::closed;
    throw_errno("send to the peer of a channel");
  }
}

FdChannel::Received FdChannel::try_receive(Message& message) const {
  message.fds.clear();
  message.sender.reset();
  iovec part{message.bytes.data(), message.bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof control.bytes;
  ssize_t size = 0;
  do {
    size = ::recvmsg(fd_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Received::nothing;
    if (errno == ECONNRESET) return Received::closed;
    throw_errno("receive from the peer of a channel");
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(ucred))) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(c), sizeof sender);
      message.sender = {.pid = sender.pid, .uid = sender.uid, .gid = sender.gid};
    }
    if (c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  if (size == 0) return Received::closed;
  message.size = static_cast<std::size_t>(size);
  return Received::message;
}

}  // namespace manyhands::net
