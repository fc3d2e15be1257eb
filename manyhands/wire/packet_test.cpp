#include "manyhands/wire/packet.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

struct alignas(64) Block {
  std::byte bytes[1024] = {};
};

TEST_CASE("a packet gives back message and buffers, the empty ones too") {
  const std::vector<ByteView> buffers{as_byte_view("first"), {}, as_byte_view("third")};
  Block block;
  const std::size_t size = packet_size(as_byte_view("message"), buffers);
  REQUIRE(size <= sizeof block.bytes);
  write_packet(block.bytes, as_byte_view("message"), buffers);
  const PacketView view(ByteView(block.bytes, size));
  CHECK(as_text(view.message()) == "message");
  REQUIRE(view.buffers().size() == 3);
  CHECK(as_text(view.buffers()[0]) == "first");
  CHECK(view.buffers()[1].empty());
  CHECK(as_text(view.buffers()[2]) == "third");
  CHECK(reinterpret_cast<std::uintptr_t>(view.buffers()[2].data()) % 64 == 0);
}

TEST_CASE("a packet cut short anywhere is refused, never read beyond") {
  const std::vector<ByteView> buffers{as_byte_view("buffer")};
  Block block;
  const std::size_t size = packet_size(as_byte_view("message"), buffers);
  write_packet(block.bytes, as_byte_view("message"), buffers);
  for (std::size_t cut = 0; cut < size; ++cut) {
    const std::vector<std::byte> part(block.bytes, block.bytes + cut);
    CHECK_THROWS_AS(PacketView{ByteView(part)}, WireError);
  }
}

TEST_CASE("sizes that overflow are refused") {
  Block block;
  std::memset(block.bytes, 0xff, 24);
  CHECK_THROWS_AS(PacketView{ByteView(block.bytes)}, WireError);
  const std::uint64_t header[3] = {0, 1, UINT64_MAX};
  std::memcpy(block.bytes, header, sizeof header);
  CHECK_THROWS_AS(PacketView{ByteView(block.bytes)}, WireError);
}

}  // namespace
}  // namespace manyhands::wire
