#include "manyhands/wire/function.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

int twice(int x) { return 2 * x; }

TEST_CASE("a function goes to an offset and back") {
  const Function function = function_at(reinterpret_cast<const void*>(&twice));
  CHECK(address_of(function) == reinterpret_cast<const void*>(&twice));
  CHECK(path_of(function.module).find("test_wire") != std::string::npos);
}

TEST_CASE("a function of a shared library belongs to that library's build") {
  const Function here = function_at(reinterpret_cast<const void*>(&twice));
  const Function there = function_at(reinterpret_cast<const void*>(&std::abort));
  CHECK(here.module != there.module);
  CHECK(address_of(there) == reinterpret_cast<const void*>(&std::abort));
}

TEST_CASE("a function travels as 28 bytes of an extension") {
  const Function function = function_at(reinterpret_cast<const void*>(&twice));
  const auto bytes = to_bytes(function);
  CHECK(bytes.size() == 3 + 28);
  CHECK(from_bytes<Function>(bytes) == function);
}

TEST_CASE("a function of another build is refused and both builds are named") {
  Function function = function_at(reinterpret_cast<const void*>(&twice));
  const std::string mine = function.module.hex();
  function.module.bytes[0] ^= std::byte{0xff};
  try {
    static_cast<void>(address_of(function));
    FAIL("found code of another build");
  } catch (const WireError& e) {
    CHECK(std::string(e.what()).find(function.module.hex()) != std::string::npos);
    CHECK(std::string(e.what()).find(mine) != std::string::npos);
  }
}

TEST_CASE("an offset beyond the module and an address outside all modules are refused") {
  Function function = function_at(reinterpret_cast<const void*>(&twice));
  function.offset = std::uint64_t{1} << 40;
  CHECK_THROWS_AS(static_cast<void>(address_of(function)), WireError);
  int local = 0;
  CHECK_THROWS_AS(function_at(&local), WireError);
}

}  // namespace
}  // namespace manyhands::wire
