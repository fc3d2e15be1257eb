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

TEST_CASE("a message that is too long or empty is refused") {
  auto [a, b] = FdChannel::make_pair();
  CHECK_THROWS_AS(static_cast<void>(a.send(as_byte_view(std::string(max_channel_message + 1, 'x')))), Error);
  CHECK_THROWS_AS(static_cast<void>(a.send({})), Error);
}

}  // namespace
}  // namespace manyhands::net
