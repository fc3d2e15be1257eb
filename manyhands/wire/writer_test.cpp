#include "manyhands/wire/writer.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "manyhands/wire/error.hpp"
#include "tests/hex.hpp"

namespace manyhands::wire {
namespace {

template <class F>
std::string written(F write) {
  Writer writer;
  write(writer);
  return hex(writer.bytes());
}

std::string integer(std::int64_t value) {
  return written([&](Writer& w) { w.integer(value); });
}
std::string unsigned_integer(std::uint64_t value) {
  return written([&](Writer& w) { w.unsigned_integer(value); });
}

// Golden bytes, by the MessagePack specification.

TEST_CASE("nil and bools take one byte") {
  CHECK(written([](Writer& w) { w.nil(); }) == "c0");
  CHECK(written([](Writer& w) { w.boolean(false); }) == "c2");
  CHECK(written([](Writer& w) { w.boolean(true); }) == "c3");
}

TEST_CASE("integers are written in the shortest form") {
  CHECK(integer(0) == "00");
  CHECK(integer(127) == "7f");
  CHECK(integer(128) == "cc80");
  CHECK(integer(255) == "ccff");
  CHECK(integer(256) == "cd0100");
  CHECK(integer(65535) == "cdffff");
  CHECK(integer(65536) == "ce00010000");
  CHECK(integer(0xffffffffLL) == "ceffffffff");
  CHECK(integer(0x100000000LL) == "cf0000000100000000");
  CHECK(integer(INT64_MAX) == "cf7fffffffffffffff");
  CHECK(integer(-1) == "ff");
  CHECK(integer(-32) == "e0");
  CHECK(integer(-33) == "d0df");
  CHECK(integer(-128) == "d080");
  CHECK(integer(-129) == "d1ff7f");
  CHECK(integer(-32768) == "d18000");
  CHECK(integer(-32769) == "d2ffff7fff");
  CHECK(integer(INT32_MIN) == "d280000000");
  CHECK(integer(std::int64_t{INT32_MIN} - 1) == "d3ffffffff7fffffff");
  CHECK(integer(INT64_MIN) == "d38000000000000000");
  CHECK(unsigned_integer(127) == "7f");
  CHECK(unsigned_integer(128) == "cc80");
  CHECK(unsigned_integer(UINT64_MAX) == "cfffffffffffffffff");
}

TEST_CASE("reals keep their width") {
  CHECK(written([](Writer& w) { w.real(1.5F); }) == "ca3fc00000");
  CHECK(written([](Writer& w) { w.real(1.5); }) == "cb3ff8000000000000");
}

TEST_CASE("strings and binaries take the shortest header that holds their length") {
  const auto text = [](std::size_t size) {
    return written([&](Writer& w) { w.string(std::string(size, 'x')); }).substr(0, 10);
  };
  CHECK(text(0) == "a0");
  CHECK(written([](Writer& w) { w.string("abc"); }) == "a3616263");
  CHECK(text(31) == "bf78787878");
  CHECK(text(32) == "d920787878");
  CHECK(text(255) == "d9ff787878");
  CHECK(text(256) == "da01007878");
  CHECK(text(65536) == "db00010000");
  const auto binary = [](std::size_t size) {
    return written([&](Writer& w) { w.binary(std::vector<std::byte>(size)); }).substr(0, 10);
  };
  CHECK(binary(0) == "c400");
  CHECK(binary(255) == "c4ff000000");
  CHECK(binary(256) == "c501000000");
  CHECK(binary(65536) == "c600010000");
}

TEST_CASE("arrays and maps take the shortest header that holds their count") {
  CHECK(written([](Writer& w) { w.array(0); }) == "90");
  CHECK(written([](Writer& w) { w.array(15); }) == "9f");
  CHECK(written([](Writer& w) { w.array(16); }) == "dc0010");
  CHECK(written([](Writer& w) { w.array(65536); }) == "dd00010000");
  CHECK(written([](Writer& w) { w.map(0); }) == "80");
  CHECK(written([](Writer& w) { w.map(15); }) == "8f");
  CHECK(written([](Writer& w) { w.map(16); }) == "de0010");
  CHECK(written([](Writer& w) { w.map(65536); }) == "df00010000");
}

TEST_CASE("extensions use fixext for 1, 2, 4, 8 and 16 bytes") {
  const auto ext = [](std::size_t size) {
    return written([&](Writer& w) { w.ext(5, std::vector<std::byte>(size)); }).substr(0, 12);
  };
  CHECK(ext(0) == "c70005");
  CHECK(ext(1) == "d40500");
  CHECK(ext(2) == "d5050000");
  CHECK(ext(3) == "c70305000000");
  CHECK(ext(4) == "d60500000000");
  CHECK(ext(8) == "d70500000000");
  CHECK(ext(16) == "d80500000000");
  CHECK(ext(17) == "c71105000000");
  CHECK(ext(256) == "c80100050000");
  CHECK(ext(65536) == "c90001000005");
  CHECK(written([](Writer& w) { w.ext(-1, {}); }) == "c700ff");
}

TEST_CASE("a typed array is its dtype, its shape, and the bytes of its elements") {
  const std::vector<std::uint16_t> elements{1, 2, 3, 4, 5, 6};
  const std::size_t shape[] = {2, 3};
  CHECK(written([&](Writer& w) {
          w.typed_array({'u', 2}, shape, {reinterpret_cast<const std::byte*>(elements.data()), 12});
        }) ==
        "c72001"
        "75020200"
        "0200000000000000"
        "0300000000000000"
        "010002000300040005000600");
}

TEST_CASE("the elements of a large typed array are aligned within the message") {
  Writer writer;
  writer.nil();
  const std::vector<double> elements(100, 1.0);
  const std::size_t shape[] = {100};
  const ByteView data{reinterpret_cast<const std::byte*>(elements.data()), 800};
  writer.typed_array({'f', 8}, shape, data);
  const ByteView message = writer.bytes();
  CHECK((message.size() - 800) % 8 == 0);
  CHECK(hex(message.last(800)) == hex(data));
}

TEST_CASE("buffers from the threshold on stay out of the message") {
  Writer writer(4);
  const std::string small = "abc";
  const std::string large = "abcd";
  writer.string(small);
  writer.string(large);
  writer.binary(as_byte_view(large));
  CHECK(hex(writer.bytes()) ==
        "a3616263"
        "c70c04"
        "00000000"
        "0400000000000000"
        "c70c03"
        "01000000"
        "0400000000000000");
  REQUIRE(writer.buffers().size() == 2);
  CHECK(as_text(writer.buffers()[0]) == large);
}

TEST_CASE("buffers are borrowed only in a scope that says so, and not if one around it forbids it") {
  Writer writer(4);
  const std::string text = "large";
  writer.string(text);
  {
    const Writer::Scope scope(writer, Writer::Buffers::borrowed);
    writer.string(text);
    const Writer::Scope inner(writer, Writer::Buffers::copied);
    writer.string(text);
    const Writer::Scope innermost(writer, Writer::Buffers::borrowed);
    writer.string(text);
  }
  REQUIRE(writer.buffers().size() == 4);
  const auto is_borrowed = [&](std::size_t i) { return as_text(writer.buffers()[i]).data() == text.data(); };
  CHECK_FALSE(is_borrowed(0));
  CHECK(is_borrowed(1));
  CHECK_FALSE(is_borrowed(2));
  CHECK_FALSE(is_borrowed(3));
}

TEST_CASE("the copies of a writer can be kept beyond its next message") {
  Writer writer(4);
  writer.string(std::string("gone by now"));
  const ByteView buffer = writer.buffers()[0];
  const auto copies = writer.take_copies();
  writer.clear();
  REQUIRE(copies.size() == 1);
  CHECK(as_text(buffer) == "gone by now");
}

TEST_CASE("a thread's writer is used by one at a time") {
  ThreadWriter outer(4);
  outer->string("outer");
  {
    ThreadWriter inner(1000);
    inner->string("inner");
    CHECK(inner->buffers().empty());
  }
  CHECK(as_text(outer->buffers()[0]) == "outer");
}

TEST_CASE("a cleared writer starts anew and keeps its memory") {
  Writer writer(0);
  writer.string("out of band");
  const std::byte* const memory = writer.bytes().data();
  writer.clear();
  CHECK(writer.bytes().empty());
  CHECK(writer.buffers().empty());
  writer.nil();
  CHECK(writer.bytes().data() == memory);
}

TEST_CASE("a moved writer takes message and buffers along") {
  Writer writer(1);
  writer.string("x");
  Writer moved(std::move(writer));
  CHECK(moved.buffers().size() == 1);
  CHECK(moved.bytes().size() == 15);
  Writer assigned;
  assigned = std::move(moved);
  CHECK(assigned.bytes().size() == 15);
}

TEST_CASE("an array of more dimensions than the format has is refused") {
  Writer writer;
  const std::size_t shape[max_rank + 1] = {};
  CHECK_THROWS_AS(writer.typed_array({'u', 1}, shape, {}), WireError);
}

}  // namespace
}  // namespace manyhands::wire
