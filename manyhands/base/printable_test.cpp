#include "manyhands/base/printable.hpp"

#include <doctest/doctest.h>

namespace manyhands {
namespace {

TEST_CASE("text for people stays as it is") {
  for (const char* text : {"", "accounts", "Lock 'Grüße' 数据 🔒", "a\\b"}) CHECK(printable(text) == text);
}

TEST_CASE("what a terminal would obey is shown as its bytes") {
  CHECK(printable("\x1b[2J\nroot# \x07\x7f") == "\\x1b[2J\\x0aroot# \\x07\\x7f");
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\xc2\\x9b31m");  // CSI in one character
  CHECK(printable("a\xe2\x80\xae"
                  "b") == "a\\xe2\\x80\\xaeb");  // from right to left
  CHECK(printable(std::string_view("\0x", 2)) == "\\x00x");
}

TEST_CASE("bytes that are no UTF-8 are shown as bytes") {
  CHECK(printable("\xff\xc3") == "\\xff\\xc3");           // no character, half a character
  CHECK(printable("\xc1\x9b") == "\\xc1\\x9b");           // longer than needed
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // half a surrogate pair
  CHECK(printable("\xe2\x82") == "\\xe2\\x82");
  CHECK(printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond the last
}

}  // namespace
}  // namespace manyhands
