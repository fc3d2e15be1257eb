#include "manyhands/mpi/pool_message.hpp"

#include <doctest/doctest.h>

#include <random>

namespace manyhands::mpi::detail::pool {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* const data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

TEST_CASE("a message of the pool gives back its records") {
  Message message;
  CHECK(message.empty());
  message.add({.kind = RecordKind::call, .id = 7}, ByteView(bytes_of("seven")));
  message.add({.kind = RecordKind::forget, .id = 8}, ByteView());
  const ByteView bytes = message.finish();
  CHECK(size_of(bytes.data()) == bytes.size());
  Records records(bytes);
  const auto call = records.next();
  REQUIRE(call);
  CHECK(call->header.id == 7);
  CHECK(std::vector<std::byte>(call->payload.begin(), call->payload.end()) == bytes_of("seven"));
  const auto forget = records.next();
  REQUIRE(forget);
  CHECK(forget->header.kind == RecordKind::forget);
  CHECK(forget->payload.empty());
  CHECK_FALSE(records.next());
  message.clear();
  CHECK(message.empty());
}

TEST_CASE("a message of the pool that is cut off or damaged is an error or fewer records") {
  Message message;
  for (std::uint64_t id = 0; id < 4; ++id)
    message.add({.kind = RecordKind::call, .id = id}, ByteView(bytes_of(std::string(10 * id, 'x'))));
  const ByteView whole = message.finish();
  std::mt19937 random(1);
  const auto read = [](ByteView bytes) {  // under ASan also: nothing beyond `bytes` is read
    std::size_t found = 0;
    try {
      Records records(bytes);
      while (const auto record = records.next()) {
        found += record->payload.empty() || record->payload.back() == std::byte{'x'} ? 1 : 0;
        REQUIRE(record->payload.size() <= bytes.size());
      }
    } catch (const WireError&) {
    }
    return found;
  };
  CHECK(read(whole) == 4);
  for (std::size_t size = sizeof(std::uint64_t); size + 8 <= whole.size(); ++size) {  // less is padding
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(read(part) < 4);
  }
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> damaged(whole.begin(), whole.end());
    const std::size_t at = sizeof(std::uint64_t) + random() % (damaged.size() - sizeof(std::uint64_t));
    damaged[at] = static_cast<std::byte>(random());
    CHECK(read(damaged) <= 5);
  }
}

}  // namespace
}  // namespace manyhands::mpi::detail::pool
