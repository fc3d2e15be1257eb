#include "manyhands/mpi/pack.hpp"

#include <doctest/doctest.h>

#include <numeric>

#include "manyhands/mpi/comm.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::code_of;
using test::Particle;

TEST_CASE("external32 gives the same bytes on every machine") {
  const auto bytes = pack_external(std::int32_t{0x01020304}, std::int16_t{5}, std::vector<double>{1.0});
  const unsigned char golden[] = {1, 2, 3, 4, 0, 5, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0};
  CHECK(bytes.size() == sizeof golden);
  for (std::size_t i = 0; i < sizeof golden; ++i) CHECK(bytes[i] == std::byte{golden[i]});
  std::int32_t a = 0;
  std::int16_t b = 0;
  std::vector<double> c(1);
  unpack_external(bytes, a, b, c);
  CHECK(a == 0x01020304);
  CHECK(b == 5);
  CHECK(c == std::vector<double>{1.0});
  CHECK(code_of([&] { unpack_external(bytes, a, b); }) == Errc::truncate);
  CHECK(code_of([&] { unpack_external(bytes, a, b, c, c); }) == Errc::truncate);
}

TEST_CASE("structs, ranges and strided data are packed field by field") {
  std::vector<Particle> particles{{1, 2, 3}, {4, 5, 6}};
  std::vector<Particle> back(2);
  unpack_external(pack_external(particles), back);
  CHECK(back == particles);
  std::vector<int> matrix(12);
  std::iota(matrix.begin(), matrix.end(), 0);
  const auto column = Datatype::vector<int>(3, 1, 4);
  const auto bytes = pack_native(world(), Particle{7, 8, 9}, buffer(std::as_const(matrix).data(), 1, column));
  Particle particle{};
  std::vector<int> values(3);
  unpack_native(world(), bytes, particle, values);
  CHECK(particle == Particle{7, 8, 9});
  CHECK(values == std::vector{0, 4, 8});
  CHECK(code_of([&] { unpack_native(world(), std::span(bytes).first(4), particle); }) == Errc::truncate);
}

TEST_CASE("empty ranges are packed as nothing") {
  const std::vector<double> none;
  std::vector<double> back;
  int number = 0;
  CHECK(pack_native(world(), none).empty());
  CHECK(pack_external(none).empty());
  unpack_native(world(), pack_native(world(), none), back);
  unpack_external(pack_external(none), back);
  unpack_native(world(), pack_native(world(), none, 5, none), back, number, back);
  CHECK(number == 5);
  unpack_external(pack_external(none, 6, none), back, number, back);
  CHECK(number == 6);
  CHECK(code_of([&] { static_cast<void>(pack_native(Comm(), number)); }) == Errc::comm);
}

}  // namespace
}  // namespace manyhands::mpi
