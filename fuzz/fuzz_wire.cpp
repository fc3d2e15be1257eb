// Feeds bytes from outside to the decoder of values. The first byte selects the type, the second whether the
// rest has an out-of-band buffer at its end. What decodes must encode to bytes that decode to the same bytes
// again.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "manyhands/wire/codec.hpp"
#include "manyhands/wire/error.hpp"

namespace mw = manyhands::wire;
using manyhands::ByteView;

namespace {

enum class Color : std::uint16_t { red };
struct Point {  // no padding: copies must be equal byte for byte
  double x;
  std::int32_t y;
  bool flags[4];
};
struct Node {
  std::int64_t value = 0;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
struct Person {
  std::string name;
  std::optional<std::optional<int>> age;
  std::map<std::string, std::variant<std::monostate, double, std::vector<float>>> properties;
  std::set<Color> colors;
  short matrix[2][2];
};

using Decode = void (*)(ByteView message, std::span<const ByteView> buffers);

template <class T>
void decode(ByteView message, std::span<const ByteView> buffers) {
  const mw::Limits limits{.max_bytes = std::uint64_t{64} << 20};
  try {
    mw::Reader reader(message, buffers, limits);
    const T value = mw::unpack<T>(reader);
    const std::vector<std::byte> first = mw::to_bytes(value);
    const std::vector<std::byte> second = mw::to_bytes(mw::from_bytes<T>(first));
    if (first != second) {
      std::fputs("fuzz_wire: a value changed between decoding and encoding\n", stderr);
      std::abort();
    }
  } catch (const manyhands::WireError&) {
  }
}

void skip(ByteView message, std::span<const ByteView> buffers) {
  try {
    mw::Reader reader(message, buffers);
    while (!reader.at_end()) reader.skip();
  } catch (const manyhands::WireError&) {
  }
}

constexpr Decode decoders[] = {
    skip,
    decode<std::int8_t>,
    decode<std::uint64_t>,
    decode<float>,
    decode<double>,
    decode<std::string>,
    decode<std::vector<std::byte>>,
    decode<std::vector<double>>,
    decode<std::vector<bool>>,
    decode<std::vector<std::array<std::uint16_t, 3>>>,
    decode<std::vector<Point>>,
    decode<std::array<Point, 2>>,
    decode<Node>,
    decode<Person>,
    decode<std::map<std::string, std::vector<std::string>>>,
    decode<std::tuple<std::string, std::vector<int>, std::vector<std::byte>, std::vector<Point>>>,
    decode<std::deque<std::optional<std::monostate>>>,
    decode<std::vector<std::vector<std::vector<std::int64_t>>>>,
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const Decode run = decoders[data[0] % std::size(decoders)];
  const std::size_t buffer_size = data[1] < size - 2 ? data[1] : 0;
  // Copies of exact size, so that a read beyond the end is seen.
  const std::vector<std::byte> message(reinterpret_cast<const std::byte*>(data) + 2,
                                       reinterpret_cast<const std::byte*>(data) + size - buffer_size);
  const std::vector<std::byte> buffer(reinterpret_cast<const std::byte*>(data) + size - buffer_size,
                                      reinterpret_cast<const std::byte*>(data) + size);
  const ByteView buffers[] = {buffer, ByteView(buffer).first(buffer_size / 2)};
  run(message, buffers);
  return 0;
}
