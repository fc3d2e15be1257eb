#include "manyhands/wire/records.hpp"

#include <doctest/doctest.h>

#include <complex>
#include <cstdlib>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire::detail {
namespace {

enum class Color : std::uint8_t { red };
struct Point {
  double x;
  int y;
};
struct Aligned {
  char first;
  alignas(16) float second;
};
struct Nested {
  bool on;
  float position[3];
  Point points[2];
  std::array<std::array<std::uint16_t, 2>, 3> matrix;
  Color color;
  std::complex<float> z;
};
struct Flags {
  bool a[2];
  struct Inner {
    int x;
    bool b;
  } inner[2];
};
struct Empty {};

TEST_CASE("a description lists types, offsets and the size") {
  CHECK(record_type<Point>().description == "{f8@0,i4@8}16");
  CHECK(record_type<Aligned>().description == "{i1@0,f4@16}32");
  CHECK(record_type<Nested>().description == "{b1@0,f4[3]@4,{f8@0,i4@8}16[2]@16,u2[2][3]@48,u1@60,c8@64}72");
  CHECK(record_type<Empty>().description == "{}1");
}

TEST_CASE("every bool of a record is known by its offset") {
  CHECK(record_type<Point>().bool_offsets.empty());
  CHECK(record_type<Flags>().bool_offsets == std::vector<std::size_t>{0, 1, 8, 16});
}

TEST_CASE("a byte that is no bool is refused, wherever it stands") {
  const RecordType& type = record_type<Flags>();
  std::vector<std::byte> data(2 * sizeof(Flags));
  check_bools(type, data);
  for (const std::size_t offset : type.bool_offsets) {
    data[sizeof(Flags) + offset] = std::byte{2};
    CHECK_THROWS_AS(check_bools(type, data), WireError);
    data[sizeof(Flags) + offset] = std::byte{1};
  }
  check_bools(type, data);
}

TEST_CASE("advice on huge pages leaves the bytes as they are") {
  std::vector<char> memory((std::size_t{4} << 20) + 12345, 'x');
  advise_huge_pages(memory.data() + 1, memory.size() - 1);
  CHECK(memory.front() == 'x');
  CHECK(memory.back() == 'x');
}

}  // namespace
}  // namespace manyhands::wire::detail
