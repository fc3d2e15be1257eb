// Properties of the codec over random values (RapidCheck): what is packed comes back, whatever the threshold;
// and random bytes are an error or a value, never anything else.

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <map>
#include <optional>
#include <set>

#include "manyhands/wire/codec.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

using Mixed =
    std::tuple<std::vector<std::pair<std::string, std::int64_t>>, std::map<std::string, std::vector<double>>,
               std::set<std::uint16_t>, std::vector<bool>, std::vector<std::uint8_t>>;

template <class T>
bool round_trips(const T& value, std::size_t out_of_band_from) {
  Writer writer(out_of_band_from);
  pack(writer, value);
  Reader reader(writer.bytes(), writer.buffers());
  const bool same = unpack<T>(reader) == value;
  Reader skipping(writer.bytes(), writer.buffers());
  skipping.skip();
  return same && reader.at_end() && skipping.at_end();
}

template <class T>
bool is_error_or_value(const std::vector<std::uint8_t>& raw) {
  const ByteView bytes = std::as_bytes(std::span(raw));
  try {
    (void)from_bytes<T>(bytes);
  } catch (const WireError&) {
  }
  return true;
}

TEST_CASE("random values come back as they were, for any threshold") {
  CHECK(rc::check("integers", [](std::int64_t v) { return round_trips(v, never_out_of_band); }));
  CHECK(rc::check("unsigned integers", [](std::uint64_t v) { return round_trips(v, never_out_of_band); }));
  CHECK(rc::check("doubles", [](double v) { return round_trips(v, never_out_of_band); }));
  CHECK(rc::check("strings", [](const std::string& v, std::uint8_t t) { return round_trips(v, t); }));
  CHECK(rc::check("vectors",
                  [](const std::vector<std::int32_t>& v, std::uint8_t t) { return round_trips(v, t); }));
  CHECK(rc::check("mixed", [](const Mixed& v, std::uint8_t t) { return round_trips(v, t); }));
}

TEST_CASE("random bytes are an error or a value") {
  CHECK(rc::check("mixed", is_error_or_value<Mixed>));
  CHECK(rc::check("vectors", is_error_or_value<std::vector<std::vector<int>>>));
}

TEST_CASE("a message with one byte changed is an error or a value") {
  CHECK(rc::check("mixed", [](const Mixed& value, std::uint16_t at, std::uint8_t byte) {
    const std::vector<std::byte> message = to_bytes(value);
    std::vector<std::uint8_t> raw(message.size());
    std::memcpy(raw.data(), message.data(), message.size());
    raw[at % raw.size()] = byte;
    return is_error_or_value<Mixed>(raw);
  }));
}

}  // namespace
}  // namespace manyhands::wire
