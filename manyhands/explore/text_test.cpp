#include "manyhands/explore/text.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace manyhands::exploring {
namespace {

enum class Colour { red, green };
enum class Said { yes };
std::ostream& operator<<(std::ostream& out, Said) { return out << "said yes"; }
struct Plain {
  int a;
  std::string b;
};
struct Closed {
  explicit Closed(int value) : v(value) {}
  int v;
};

TEST_CASE("outcomes read as one would write them") {
  CHECK(text_of(10.0) == "10");
  CHECK(text_of(0.1) == "0.1");
  CHECK(text_of(-3) == "-3");
  CHECK(text_of(std::uint8_t{200}) == "200");
  CHECK(text_of(true) == "true");
  CHECK(text_of('c') == "'c'");
  CHECK(text_of(Colour::green) == "1");
  CHECK(text_of(Said::yes) == "said yes");
  CHECK(text_of(std::string("two words")) == "two words");
  CHECK(text_of(std::vector<int>{1, 2}) == "[1, 2]");
  CHECK(text_of(std::vector<bool>{true, false}) == "[true, false]");
  CHECK(text_of(std::array<std::string, 1>{"x"}) == "[\"x\"]");
  CHECK(text_of(std::pair{1, std::string("x")}) == "(1, \"x\")");
  CHECK(text_of(std::tuple{1, 2.5, 'z'}) == "(1, 2.5, 'z')");
  CHECK(text_of(std::optional<int>{}) == "nothing");
  CHECK(text_of(std::optional<int>{4}) == "4");
  CHECK(text_of(std::variant<int, std::string>{"v"}) == "v");
  CHECK(text_of(std::map<int, bool>{{1, true}}) == "[(1, true)]");
  CHECK(text_of(Plain{1, "x"}) == "{1, \"x\"}");
  CHECK(text_of(std::monostate{}) == "done");
}

TEST_CASE("types without a text are known as such") {
  static_assert(has_text<Plain>());
  static_assert(!has_text<Closed>());
  static_assert(!has_text<std::vector<Closed>>());
  static_assert(!has_text<std::pair<int, Closed>>());
}

TEST_CASE("values are the same by their operator, and otherwise by their text") {
  CHECK(same_value(1.0, 1.0));
  CHECK_FALSE(same_value(1.0, 1.0000000001));
  CHECK(same_value(std::nan(""), std::nan("")));
  CHECK(same_value(std::vector{1.0, std::nan("")}, std::vector{1.0, std::nan("")}));
  CHECK(same_value(Plain{1, "x"}, Plain{1, "x"}));
  CHECK_FALSE(same_value(Plain{1, "x"}, Plain{1, "y"}));
}

}  // namespace
}  // namespace manyhands::exploring
