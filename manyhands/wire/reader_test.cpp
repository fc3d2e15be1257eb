#include "manyhands/wire/reader.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "manyhands/wire/error.hpp"
#include "manyhands/wire/writer.hpp"
#include "tests/hex.hpp"

namespace manyhands::wire {
namespace {

// Calls read(reader) on the message given as hex.
template <class F>
auto reading(std::string_view message, F read) {
  const std::vector<std::byte> bytes = from_hex(message);
  Reader reader(bytes);
  return read(reader);
}

template <class F>
std::string error_of(std::string_view message, F read) {
  try {
    reading(message, [&](Reader& r) { read(r); });
  } catch (const WireError& error) {
    return error.what();
  }
  return "no error";
}

template <class T>
T integral(std::string_view message) {
  return reading(message, [](Reader& r) { return r.integral<T>(); });
}
double real(std::string_view message) {
  return reading(message, [](Reader& r) { return r.real(); });
}

TEST_CASE("an integer may come in any encoding that the type can hold") {
  for (const char* seven : {"07", "cc07", "cd0007", "ce00000007", "cf0000000000000007", "d007", "d10007",
                            "d200000007", "d30000000000000007"}) {
    CAPTURE(seven);
    CHECK(integral<int>(seven) == 7);
    CHECK(integral<std::uint8_t>(seven) == 7);
    CHECK(integral<char>(seven) == 7);
    CHECK(integral<std::uint64_t>(seven) == 7);
  }
  for (const char* minus_seven : {"f9", "d0f9", "d1fff9", "d2fffffff9", "d3fffffffffffffff9"}) {
    CAPTURE(minus_seven);
    CHECK(integral<std::int8_t>(minus_seven) == -7);
    CHECK(integral<std::int64_t>(minus_seven) == -7);
    CHECK_THROWS_AS(integral<std::uint64_t>(minus_seven), WireError);
  }
  CHECK(integral<std::uint64_t>("cfffffffffffffffff") == UINT64_MAX);
  CHECK(integral<std::int64_t>("d38000000000000000") == INT64_MIN);
}

TEST_CASE("an integer that the type cannot hold is an error") {
  CHECK_THROWS_AS(integral<std::int8_t>("cc80"), WireError);
  CHECK_THROWS_AS(integral<std::int8_t>("d1ff7f"), WireError);
  CHECK_THROWS_AS(integral<std::uint8_t>("cd0100"), WireError);
  CHECK_THROWS_AS(integral<std::int32_t>("ce80000000"), WireError);
  CHECK_THROWS_AS(integral<std::int64_t>("cf8000000000000000"), WireError);
  CHECK(error_of("cd012c", [](Reader& r) { r.integral<std::int8_t>(); }) ==
        "wire: expected a signed integer of 8 bits, found 300 (at byte 0 of 3)");
}

TEST_CASE("a real may come as float, double, or an integer that a double holds exactly") {
  CHECK(real("ca3fc00000") == 1.5);
  CHECK(real("cb3ff8000000000000") == 1.5);
  CHECK(real("03") == 3.0);
  CHECK(real("fd") == -3.0);
  CHECK(real("cf8000000000000000") == std::ldexp(1.0, 63));
  CHECK(real("d38000000000000000") == -std::ldexp(1.0, 63));
  CHECK_THROWS_AS(real("cf8000000000000001"), WireError);
}

TEST_CASE("a double is read as float only if nothing is lost") {
  const auto real32 = [](std::string_view m) { return reading(m, [](Reader& r) { return r.real32(); }); };
  CHECK(real32("cb3ff8000000000000") == 1.5F);
  CHECK(std::isnan(real32("cb7ff8000000000000")));
  CHECK(std::isinf(real32("cb7ff0000000000000")));
  CHECK_THROWS_AS(real32("cb3ff8000000000001"), WireError);
  CHECK_THROWS_AS(real32("cb7fefffffffffffff"), WireError);
}

TEST_CASE("an error says what was expected, what came, and where") {
  CHECK(error_of("01 a161", [](Reader& r) { r.integer(), r.integer(); }) ==
        "wire: expected an integer, found a string (0xa1) (at byte 1 of 3)");
  CHECK(error_of("", [](Reader& r) { r.nil(); }) ==
        "wire: expected nil, found the end of the message (at byte 0 of 0)");
  CHECK(error_of("c1", [](Reader& r) { r.skip(); }) ==
        "wire: expected a value, found a byte that MessagePack does not use (0xc1) (at byte 0 of 1)");
}

TEST_CASE("every verb refuses values of every other type") {
  const char* const values[] = {"c0", "c3", "05", "cb0000000000000000", "a0", "c400", "90", "80", "d40500"};
  using Verb = void (*)(Reader&);
  const Verb verbs[] = {
      [](Reader& r) { r.nil(); },   [](Reader& r) { r.boolean(); }, [](Reader& r) { r.integer(); },
      [](Reader& r) { r.real(); },  [](Reader& r) { r.string(); },  [](Reader& r) { r.binary(); },
      [](Reader& r) { r.array(); }, [](Reader& r) { r.map(); },     [](Reader& r) { r.ext(); }};
  for (std::size_t verb = 0; verb < std::size(verbs); ++verb) {
    for (std::size_t value = 0; value < std::size(values); ++value) {
      CAPTURE(verb);
      CAPTURE(value);
      const bool integer_as_real = verb == 3 && value == 2;
      if (verb == value || integer_as_real) {
        CHECK(error_of(values[value], verbs[verb]) == "no error");
      } else {
        CHECK(error_of(values[value], verbs[verb]) != "no error");
      }
    }
  }
}

TEST_CASE("peek names the type of every first byte") {
  for (unsigned first = 0; first < 256; ++first) {
    const std::array<std::byte, 1> message{static_cast<std::byte>(first)};
    const Type type = Reader(message).peek();
    CAPTURE(first);
    CHECK((type == Type::invalid) == (first == 0xc1));
    CHECK(type != Type::end);
  }
  CHECK(Reader(ByteView{}).peek() == Type::end);
}

TEST_CASE("lengths beyond the end are refused before anything is taken") {
  const char* const messages[] = {"dbffffffff61",   "c6ffffffff61", "ddffffffff01", "dfffffffff01",
                                  "c9ffffffff0161", "a261",         "c40261",       "9201",
                                  "8101",           "d80100"};
  for (const char* message : messages) {
    CAPTURE(message);
    CHECK(error_of(message, [](Reader& r) { r.skip(); }) != "no error");
  }
}

TEST_CASE("skip passes over a value with all that it contains") {
  reading("93 01 82 a161 90 a162 c7020500ff c0 2a", [](Reader& r) {
    r.skip();
    CHECK(r.integer() == 42);
    CHECK(r.at_end());
  });
}

TEST_CASE("skip needs no stack for a message that is nested a million times") {
  const std::vector<std::byte> bomb(1'000'000, std::byte{0x91});
  Reader reader(bomb);
  CHECK_THROWS_AS(reader.skip(), WireError);
}

TEST_CASE("levels beyond the limit are refused, and given back") {
  Reader reader({}, {}, {.max_depth = 2});
  for (int i = 0; i < 3; ++i) {
    const Reader::Level one(reader);
    const Reader::Level two(reader);
    CHECK_THROWS_AS(Reader::Level{reader}, WireError);
  }
}

TEST_CASE("memory beyond the limit is refused") {
  Reader reader({}, {}, {.max_bytes = 100});
  reader.charge(60);
  CHECK_THROWS_AS(reader.charge(41), WireError);
  reader.charge(40);
}

TEST_CASE("an array of a wrong length is refused") {
  CHECK(error_of("920102", [](Reader& r) { r.array_of(3); }) ==
        "wire: expected an array of 3, found an array of 2 (at byte 1 of 3)");
  CHECK(error_of("dc00020102", [](Reader& r) { r.array_of(2); }) == "no error");
}

TEST_CASE("a typed array whose header does not match its bytes is refused") {
  const auto typed = [](Reader& r) { r.typed_array(); };
  const std::string one = "0100000000000000";
  CHECK(error_of("c70d01 75010100" + one + "07", typed) == "no error");
  CHECK(error_of("c70d01 75010100 0200000000000000 07", typed) != "no error");  // too few bytes
  CHECK(error_of("c70d01 75000100" + one + "07", typed) != "no error");         // size 0
  CHECK(error_of("c70d01 58010100" + one + "07", typed) != "no error");         // unknown kind
  CHECK(error_of("c70d01 75010900" + one + "07", typed) != "no error");         // rank 9
  CHECK(error_of("c70d01 75010102" + one + "07", typed) != "no error");         // padding beyond the end
  CHECK(error_of("c71501 75010200 00000000000000ff 0001000000000000 07", typed) !=
        "no error");  // product overflows
  CHECK(error_of("d401 75", typed) != "no error");
  CHECK(error_of("c70402 75010100", typed) != "no error");  // another extension
}

TEST_CASE("out-of-band buffers are found by index and size") {
  const std::string text = "hello";
  const std::vector<ByteView> buffers{as_byte_view(text), as_byte_view(text)};
  const auto read = [&](std::string_view message) {
    const std::vector<std::byte> bytes = from_hex(message);
    Reader reader(bytes, buffers);
    return std::string(reader.string());
  };
  const std::string head = "c70c04";
  CHECK(read(head + "00000000 0500000000000000") == "hello");
  CHECK_THROWS_AS(read(head + "02000000 0500000000000000"), WireError);     // no such buffer
  CHECK_THROWS_AS(read(head + "00000000 0600000000000000"), WireError);     // another size
  CHECK_THROWS_AS(read("c70b04 00000000 05000000000000"), WireError);       // cut short
  CHECK_THROWS_AS(read("c70d04 00000000 0500000000000000 00"), WireError);  // too long
}

TEST_CASE("a buffer cannot be referred to twice, so that a short message cannot multiply it") {
  const std::string text = "hello";
  const std::vector<ByteView> buffers{as_byte_view(text)};
  const std::vector<std::byte> bytes =
      from_hex("c70c04 00000000 0500000000000000 c70c04 00000000 0500000000000000");
  Reader reader(bytes, buffers);
  CHECK(reader.string() == "hello");
  CHECK_THROWS_AS(reader.string(), WireError);
}

TEST_CASE("records of another layout are refused with both descriptions") {
  Writer writer;
  const std::byte data[16] = {};
  writer.records("{f8@0,i4@8}16", 1, data);
  Reader reader(writer.bytes());
  CHECK(reader.peek() == Type::ext);
  try {
    reader.records("{f8@0,i8@8}16", 16);
    FAIL("no error");
  } catch (const WireError& error) {
    CHECK(std::string(error.what()).find("expected records {f8@0,i8@8}16, found records {f8@0,i4@8}16") !=
          std::string::npos);
  }
  Reader again(writer.bytes());
  CHECK(again.records("{f8@0,i4@8}16", 16).count == 1);
  Reader other_size(writer.bytes());
  CHECK_THROWS_AS(other_size.records("{f8@0,i4@8}16", 8), WireError);
}

}  // namespace
}  // namespace manyhands::wire
