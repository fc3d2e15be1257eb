#include "manyhands/process/payload.hpp"

#include <doctest/doctest.h>

#include <string>

#include "manyhands/wire/codec.hpp"

namespace manyhands::process {
namespace {

constexpr std::uint64_t region = std::uint64_t{1} << 24;

std::string text_in(const Payload& payload) {
  return payload.read([](wire::Reader& reader) { return wire::unpack<std::string>(reader); });
}

TEST_CASE("short and long messages are kept and read, also after a move") {
  for (const std::size_t size : {0U, 10U, 47U, 5000U}) {
    const auto bytes = wire::to_bytes(std::string(size, 'x'));
    Payload payload{ByteView(bytes)};
    const Payload moved = std::move(payload);
    CHECK(text_in(moved) == std::string(size, 'x'));
    CHECK(text_in(moved).size() == size);  // reading takes nothing
  }
}

TEST_CASE("a packet in shared memory is read in place and given back once") {
  auto memory = std::make_shared<shm::Segment>(shm::Segment::create(region));
  shm::Arena arena(*memory, 0, region, 1 << 20);
  wire::Writer writer(16);
  const std::string text(1000, 'y');
  wire::pack(writer, text);
  REQUIRE(writer.buffers().size() == 1);
  const auto size = wire::packet_size(writer.bytes(), writer.buffers());
  const auto block = arena.allocate(size);
  wire::write_packet(memory->data() + block, writer.bytes(), writer.buffers());
  {
    Payload payload{SharedBlock(memory, block, size)};
    Payload other;
    other = std::move(payload);
    CHECK(text_in(other) == text);
    CHECK(arena.outstanding() == 1);
  }
  CHECK(arena.outstanding() == 0);
}

TEST_CASE("a block keeps the memory mapped as long as it lives") {
  auto memory = std::make_shared<shm::Segment>(shm::Segment::create(region));
  shm::Arena arena(*memory, 0, region, 1 << 20);
  SharedBlock block(memory, arena.allocate(100), 100);
  memory.reset();
  block.data()[99] = std::byte{1};
  CHECK(block.view()[99] == std::byte{1});
  block.reset();
  CHECK_FALSE(block);
}

}  // namespace
}  // namespace manyhands::process
