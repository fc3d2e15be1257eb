#include "manyhands/shm/block.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "manyhands/base/error.hpp"

namespace manyhands::shm {
namespace {

// Runs `body` in a forked process, which then ends without destructors; its wait status.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

std::uint32_t refs(const BlockPtr& block) { return header_of(block->offset()).refs.load(); }

TEST_CASE("a block lives as long as this process holds it, and is used again afterwards") {
  BlockPtr block = Block::create(100, BlockKind::raw);
  CHECK(refs(block) == 1);
  const BlockPtr again = Block::attach(block->offset(), BlockKind::raw);
  CHECK(again == block);  // one hold per process
  CHECK(refs(block) == 1);
  std::memset(block->data(), 7, 100);
  const Offset place = block->offset();
  const auto in_use = heap_statistics().allocated;
  block.reset();
  const_cast<BlockPtr&>(again).reset();
  CHECK(heap_statistics().allocated == in_use - 1);
  const BlockPtr next = Block::create(100, BlockKind::raw);
  CHECK(next->offset() == place);
  CHECK(std::all_of(next->data(), next->data() + 100, [](std::byte b) { return b == std::byte{0}; }));
}

TEST_CASE("a block that is gone, or of another kind, cannot be attached") {
  const BlockPtr block = Block::create(100, BlockKind::raw);
  CHECK_THROWS_WITH_AS(static_cast<void>(Block::attach(block->offset(), BlockKind::lock)),
                       doctest::Contains("names a Lock of this program's shared memory"), Error);
  CHECK_THROWS_AS(static_cast<void>(Block::attach(block->offset() + 64, BlockKind::raw)), Error);
  CHECK_THROWS_AS(static_cast<void>(Block::attach(Offset{1} << 60, BlockKind::raw)), Error);
}

TEST_CASE("a forked child holds what its parent held, and a killed one gives it back") {
  BlockPtr block = Block::create(64, BlockKind::raw);
  const pid_t child = ::fork();
  if (child == 0) {
    at<std::atomic<std::uint32_t>>(block->offset()).store(1);
    for (;;) ::pause();
  }
  while (at<std::atomic<std::uint32_t>>(block->offset()).load() == 0) std::this_thread::yield();
  CHECK(refs(block) == 2);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  sweep();
  CHECK(refs(block) == 1);
}

TEST_CASE("a block made in a child outlives it while somebody else holds it") {
  const BlockPtr mail = Block::create(64, BlockKind::raw);
  auto& place = at<std::atomic<Offset>>(mail->offset());
  in_child([&] {
    static BlockPtr made = Block::create(1000, BlockKind::raw);
    std::strcpy(reinterpret_cast<char*>(made->data()), "hello");
    add_ref(made->offset());  // the message that names it
    place.store(made->offset());
  });
  sweep();
  {
    const BlockPtr got = Block::attach(place.load(), BlockKind::raw);
    release(place.load());  // the message is taken
    CHECK(std::string(reinterpret_cast<const char*>(got->data())) == "hello");
    CHECK(refs(got) == 1);
  }
  CHECK_FALSE(is_block(place.load(), BlockKind::raw));
}

TEST_CASE("more blocks than one chunk of holdings has room for") {
  std::vector<BlockPtr> blocks;
  for (int i = 0; i < 2000; ++i) blocks.push_back(Block::create(8, BlockKind::raw));
  const auto held = held_blocks(BlockKind::raw);
  CHECK(std::all_of(blocks.begin(), blocks.end(), [&](const BlockPtr& block) {
    return std::binary_search(held.begin(), held.end(), block->offset());
  }));
}

TEST_CASE("a parcel notes the blocks that a message names; without one a handle cannot be packed") {
  const BlockPtr block = Block::create(8, BlockKind::raw);
  CHECK_THROWS_WITH_AS(Parcel::add(block), doctest::Contains("Pool, Process, Queue or Pipe"), Error);
  Parcel outer;
  {
    Parcel inner;
    Parcel::add(block);
    CHECK(inner.blocks().size() == 1);
  }
  CHECK(outer.blocks().empty());
  Parcel::add(block);
  CHECK(outer.take().front() == block);
}

}  // namespace
}  // namespace manyhands::shm
