#include "manyhands/base/bytes.hpp"

#include <doctest/doctest.h>

namespace manyhands {
namespace {

TEST_CASE("text and bytes are two views of the same memory") {
  const std::string_view text = "hands";
  const ByteView bytes = as_byte_view(text);
  CHECK(bytes.size() == 5);
  CHECK(bytes[0] == std::byte{'h'});
  CHECK(as_text(bytes).data() == text.data());
}

TEST_CASE("round_up gives the next multiple and keeps multiples") {
  CHECK(round_up(0, 8) == 0);
  CHECK(round_up(1, 8) == 8);
  CHECK(round_up(8, 8) == 8);
  CHECK(round_up(4097, 4096) == 8192);
}

}  // namespace
}  // namespace manyhands
