#include "manyhands/net/fd_channel.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands::net {
namespace {

TEST_CASE("messages keep their boundaries and order") {
  auto [a, b] = FdChannel::make_pair();
  REQUIRE(a.send(as_byte_view("one")));
  REQUIRE(a.send(as_byte_view("two")));
  FdChannel::Message message;
  REQUIRE(b.try_receive(message) == FdChannel::Received::message);
  CHECK(as_text(message.view()) == "one");
  REQUIRE(b.try_receive(message) == FdChannel::Received::message);
  CHECK(as_text(message.view()) == "two");
  CHECK(b.try_receive(message) == FdChannel::Received::nothing);
}

TEST_CASE("a descriptor that is sent refers to the same file") {
  auto [a, b] = FdChannel::make_pair();
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const int fds[] = {ends[1]};
  REQUIRE(a.send(as_byte_view("pipe"), fds));
  ::close(ends[1]);
  FdChannel::Message message;
  REQUIRE(b.try_receive(message) == FdChannel::Received::message);
  REQUIRE(message.fds.size() == 1);
  CHECK(::write(message.fds[0].get(), "x", 1) == 1);
  char got = 0;
  CHECK(::read(ends[0], &got, 1) == 1);
  CHECK(got == 'x');
  ::close(ends[0]);
}

TEST_CASE("the other end's death is seen by both verbs") {
  auto [a, b] = FdChannel::make_pair();
  b.close();
  FdChannel::Message message;
  CHECK(a.try_receive(message) == FdChannel::Received::closed);
  CHECK_FALSE(a.send(as_byte_view("anyone?")));
}

TEST_CASE("a send that must not block says when the other end is behind, or gone") {
  auto [a, b] = FdChannel::make_pair();
  int sent = 0;
  FdChannel::Sent last = FdChannel::Sent::yes;
  while (sent < 100'000 && (last = a.try_send(as_byte_view("news"))) == FdChannel::Sent::yes) ++sent;
  CHECK(last == FdChannel::Sent::full);
  FdChannel::Message message;
  while (b.try_receive(message) == FdChannel::Received::message) --sent;
  CHECK(sent == 0);
  CHECK(a.try_send(as_byte_view("more")) == FdChannel::Sent::yes);
  b.close();
  CHECK(a.try_send(as_byte_view("anyone?")) == FdChannel::Sent::closed);
}

TEST_CASE("a message names its sender to an end that asks for it") {
  auto [a, b] = FdChannel::make_pair();
  b.ask_for_senders();
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(a.send(as_byte_view("it is me")) ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  FdChannel::Message message;
  REQUIRE(b.try_receive(message) == FdChannel::Received::message);
  REQUIRE(message.sender.has_value());
  CHECK(message.sender->pid == pid);
  CHECK(message.sender->uid == ::getuid());
  CHECK(message.sender->gid == ::getgid());
}

TEST_CASE("a message that is too long or empty is refused") {
  auto [a, b] = FdChannel::make_pair();
  CHECK_THROWS_AS(static_cast<void>(a.send(as_byte_view(std::string(max_channel_message + 1, 'x')))), Error);
  CHECK_THROWS_AS(static_cast<void>(a.send({})), Error);
}

}  // namespace
}  // namespace manyhands::net
