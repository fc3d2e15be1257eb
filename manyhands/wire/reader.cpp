#include "manyhands/wire/reader.hpp"

#include <fmt/format.h>

#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "manyhands/base/log.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

const char* name_of(Type type) {
  switch (type) {
    case Type::end:
      return "the end of the message";
    case Type::nil:
      return "nil";
    case Type::boolean:
      return "a bool";
    case Type::integer:
      return "an integer";
    case Type::real:
      return "a real number";
    case Type::string:
      return "a string";
    case Type::binary:
      return "a binary";
    case Type::array:
      return "an array";
    case Type::map:
      return "a map";
    case Type::ext:
      return "an extension";
    case Type::invalid:
      break;
  }
  return "a byte that MessagePack does not use";
}

template <class U>
U get_le(const std::byte* at) {
  U value;
  std::memcpy(&value, at, sizeof(U));
  return value;
}

// Text from outside for a message to humans: printable, of bounded length.
std::string printable(std::string_view text) {
  constexpr std::size_t most = 300;
  std::string out(text.substr(0, most));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() > most ? out + "..." : out;
}

bool is_known(Dtype dtype) {
  const unsigned size = dtype.size;
  switch (dtype.kind) {
    case 'b':
      return size == 1;
    case 'i':
    case 'u':
      return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f':
      return size == 2 || size == 4 || size == 8 || size == 16;
    case 'c':
      return size == 4 || size == 8 || size == 16 || size == 32;
    default:
      return false;
  }
}

}  // namespace

// ---- Errors.

void Reader::reject(std::string_view what) const {
  throw WireError(fmt::format("wire: {} (at byte {} of {})", what, offset(), last_ - first_));
}

void Reader::expected(std::string_view what) const {
  if (at_end()) reject(fmt::format("expected {}, found the end of the message", what));
  reject(fmt::format("expected {}, found {} (0x{:02x})", what, name_of(peek()),
                     std::to_integer<unsigned>(*next_)));
}

void Reader::reject_range(const std::byte* at, Wide wide, bool is_signed, std::size_t size) {
  next_ = at;
  const std::string found =
      wide.negative ? fmt::format("{}", static_cast<std::int64_t>(wide.bits)) : fmt::format("{}", wide.bits);
  reject(fmt::format("expected {} integer of {} bits, found {}", is_signed ? "a signed" : "an unsigned",
                     8 * size, found));
}

void Reader::reject_memory(std::uint64_t bytes) const {
  reject(fmt::format("the value takes {} more bytes of memory, the limit leaves {}", bytes, memory_left_));
}

void Reader::reject_depth() const { reject(detail::depth_text(max_depth_)); }

void Reader::check_room(StackRoom room) const {
  if (auto text = detail::room_text(room, max_depth_ - depth_left_)) reject(*text);
}

// ---- Depth.

std::size_t default_max_depth() {
  static const std::size_t depth = [] {
    constexpr std::size_t standard = 10'000;
    const char* const text = std::getenv("MANYHANDS_MAX_DEPTH");
    if (text == nullptr) return standard;
    char* end = nullptr;
    const unsigned long long wanted = std::strtoull(text, &end, 10);
    if (end != text && *end == '\0' && wanted > 0) return static_cast<std::size_t>(wanted);
    log::warn("MANYHANDS_MAX_DEPTH={} is no number of levels; it is {}", text, standard);
    return standard;
  }();
  return depth;
}

namespace detail {

std::string depth_text(std::size_t max_depth) {
  return fmt::format(
      "values are nested deeper than {} levels, the limit; raise it (MANYHANDS_MAX_DEPTH=N in the "
      "environment, wire::Limits::max_depth of a Reader), or keep the nodes of a list or tree in a vector and "
      "refer to them by index",
      max_depth);
}

std::optional<std::string> room_text(StackRoom room, std::size_t depth) {
  constexpr std::size_t on_unknown_stack = 64;
  if (room == StackRoom::enough || (room == StackRoom::unknown && depth < on_unknown_stack))
    return std::nullopt;
  return fmt::format(
      "values are nested {} levels deep, and {} has no room for more; {}, or keep the nodes of a list or "
      "tree in "
      "a vector and refer to them by index",
      depth, room == StackRoom::none ? "this thread's stack" : "a stack that is not the thread's own",
      room == StackRoom::none ? "enlarge it (ulimit -s, or the thread's stack size)"
                              : "do it on the thread's own stack");
}

}  // namespace detail

// ---- Bytes.

const std::byte* Reader::take(std::size_t size) {
  if (size > left()) [[unlikely]] {
    reject(fmt::format("expected {} more bytes, found {} before the end of the message", size, left()));
  }
  const std::byte* const at = next_;
  next_ += size;
  return at;
}

std::uint64_t Reader::big_endian(std::size_t size) {
  const std::byte* const at = take(size);
  switch (size) {
    case 1:
      return get_le<std::uint8_t>(at);
    case 2:
      return __builtin_bswap16(get_le<std::uint16_t>(at));
    case 4:
      return __builtin_bswap32(get_le<std::uint32_t>(at));
    default:
      return __builtin_bswap64(get_le<std::uint64_t>(at));
  }
}

// A length of `size` bytes, of things that take at least a byte each.
std::size_t Reader::length(std::size_t size) {
  const std::size_t announced = big_endian(size);
  if (announced > left()) [[unlikely]] {
    reject(fmt::format("a length of {} is announced, but only {} bytes are left", announced, left()));
  }
  return announced;
}

// ---- Scalars.

void Reader::nil() {
  if (at_end() || *next_ != std::byte{mark::nil}) expected("nil");
  ++next_;
}

bool Reader::boolean() {
  const unsigned first = at_end() ? mark::never_used : std::to_integer<unsigned>(*next_);
  if (first != mark::boolean_false && first != mark::boolean_true) expected("a bool");
  ++next_;
  return first == mark::boolean_true;
}

Reader::Wide Reader::wide_integer() {
  if (at_end()) expected("an integer");
  const unsigned first = std::to_integer<unsigned>(*next_);
  if (first < 0x80) return ++next_, Wide{first, false};
  if (first >= mark::negative_fixint) return ++next_, Wide{first | ~std::uint64_t{0xff}, true};
  if (first < mark::uint8 || first > mark::int64) expected("an integer");
  ++next_;
  const bool is_signed = first >= mark::int8;
  const std::size_t size = std::size_t{1} << (first - (is_signed ? mark::int8 : mark::uint8));
  std::uint64_t bits = big_endian(size);
  if (!is_signed) return {bits, false};
  const bool negative = (bits >> (8 * size - 1)) != 0;
  if (negative && size < 8) bits |= ~std::uint64_t{0} << (8 * size);
  return {bits, negative};
}

double Reader::other_real() {
  if (at_end()) expected("a real number");
  const std::byte* const at = next_;
  const unsigned first = std::to_integer<unsigned>(*next_);
  if (first == mark::float32) {
    ++next_;
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(big_endian(4)));
  }
  if (first == mark::float64) {
    ++next_;
    return __builtin_bit_cast(double, big_endian(8));
  }
  if (peek() != Type::integer) expected("a real number");
  const Wide wide = wide_integer();
  const std::uint64_t magnitude = wide.negative ? ~wide.bits + 1 : wide.bits;
  constexpr std::uint64_t exact = std::uint64_t{1} << 53;
  if (magnitude != 0 && (magnitude >> __builtin_ctzll(magnitude)) > exact) {
    next_ = at;
    reject(fmt::format("expected a number that a double holds exactly, found {}{}", wide.negative ? "-" : "",
                       magnitude));
  }
  return wide.negative ? -static_cast<double>(magnitude) : static_cast<double>(magnitude);
}

float Reader::real32() {
  if (left() >= 5 && static_cast<std::uint8_t>(*next_) == mark::float32) {
    const std::uint32_t bits = get_le<std::uint32_t>(next_ + 1);
    next_ += 5;
    return __builtin_bit_cast(float, __builtin_bswap32(bits));
  }
  const std::byte* const at = next_;
  const double value = real();
  if (std::isfinite(value) &&
      (std::fabs(value) > double{FLT_MAX} || double{static_cast<float>(value)} != value)) {
    next_ = at;
    reject(fmt::format("expected a number that a float holds exactly, found {}", value));
  }
  return static_cast<float>(value);
}

// ---- Strings, binaries, extensions.

ByteView Reader::buffer(ByteView& body) {
  if (body.size() < 12) reject("a reference to a buffer is cut short");
  const auto index = get_le<std::uint32_t>(body.data());
  const auto size = get_le<std::uint64_t>(body.data() + 4);
  body = body.subspan(12);
  if (index >= buffers_.size()) {
    reject(fmt::format("expected a reference to one of {} buffers, found index {}", buffers_.size(), index));
  }
  if (index < next_buffer_) reject(fmt::format("buffer {} is referred to twice or out of order", index));
  if (buffers_[index].size() != size) {
    reject(
        fmt::format("expected buffer {} of {} bytes, found one of {}", index, size, buffers_[index].size()));
  }
  next_buffer_ = std::size_t{index} + 1;
  return buffers_[index];
}

std::string_view Reader::string() {
  if (at_end()) expected("a string");
  const unsigned first = std::to_integer<unsigned>(*next_);
  if ((first & 0xe0) == mark::fixstr) {
    ++next_;
    const std::size_t size = first & 0x1f;
    return {reinterpret_cast<const char*>(take(size)), size};
  }
  if (first >= mark::str8 && first <= mark::str32) {
    ++next_;
    const std::size_t size = length(std::size_t{1} << (first - mark::str8));
    return {reinterpret_cast<const char*>(take(size)), size};
  }
  if (peek() != Type::string) expected("a string");
  ByteView body = ext_value().body;
  const ByteView found = buffer(body);
  if (!body.empty()) reject("a reference to a string is too long");
  return as_text(found);
}

ByteView Reader::binary() {
  const Type type = peek();
  if (type != Type::binary) expected("a binary");
  const unsigned first = std::to_integer<unsigned>(*next_);
  if (first >= mark::bin8 && first <= mark::bin32) {
    ++next_;
    const std::size_t size = length(std::size_t{1} << (first - mark::bin8));
    return {take(size), size};
  }
  ByteView body = ext_value().body;
  const ByteView found = buffer(body);
  if (!body.empty()) reject("a reference to a binary is too long");
  return found;
}

ExtView Reader::ext_value() {
  if (at_end()) expected("an extension");
  const unsigned first = std::to_integer<unsigned>(*next_);
  std::size_t size = 0;
  if (first >= mark::fixext1 && first <= mark::fixext16) {
    ++next_;
    size = std::size_t{1} << (first - mark::fixext1);
  } else if (first >= mark::ext8 && first <= mark::ext32) {
    ++next_;
    size = length(std::size_t{1} << (first - mark::ext8));
  } else {
    expected("an extension");
  }
  const auto type = static_cast<std::int8_t>(*take(1));
  return {type, {take(size), size}};
}

ExtView Reader::ext() { return ext_value(); }

TypedArrayView Reader::typed_array() {
  if (peek() != Type::ext) expected("a typed array");
  auto [type, body] = ext_value();
  if (type != ext::typed_array && type != ext::out_of_band_typed_array) {
    reject(fmt::format("expected a typed array, found an extension of type {}", type));
  }
  TypedArrayView view;
  const bool in_band = type == ext::typed_array;
  if (!in_band) view.data = buffer(body);
  if (body.size() < 4) reject("the header of a typed array is cut short");
  view.dtype = {static_cast<char>(body[0]), static_cast<std::uint8_t>(body[1])};
  view.rank = std::to_integer<std::size_t>(body[2]);
  const auto pad = std::to_integer<std::size_t>(body[3]);
  if (!is_known(view.dtype)) {
    reject(fmt::format("a typed array has the unknown dtype {{kind {}, size {}}}", int{view.dtype.kind},
                       view.dtype.size));
  }
  if (view.rank > max_rank)
    reject(fmt::format("a typed array has {} dimensions, at most {}", view.rank, max_rank));
  if (body.size() < 4 + 8 * view.rank + pad) reject("the header of a typed array is cut short");
  bool fits = true;
  std::uint64_t size = view.dtype.size;
  view.count = 1;
  for (std::size_t i = 0; i < view.rank; ++i) {
    view.shape[i] = get_le<std::uint64_t>(body.data() + 4 + 8 * i);
    view.count *= view.shape[i];  // may wrap, then `size` does too and fits is false
    fits = fits && !__builtin_mul_overflow(size, view.shape[i], &size);
  }
  const ByteView rest = body.subspan(4 + 8 * view.rank + pad);
  if (in_band) view.data = rest;
  if (!fits || size != view.data.size() || (!in_band && !rest.empty())) {
    reject(fmt::format("the shape of a typed array does not match its {} bytes", view.data.size()));
  }
  return view;
}

RecordsView Reader::records(std::string_view description, std::size_t record_size) {
  if (peek() != Type::ext) expected(fmt::format("records {}", description));
  auto [type, body] = ext_value();
  if (type != ext::records && type != ext::out_of_band_records) {
    reject(fmt::format("expected records {}, found an extension of type {}", description, type));
  }
  RecordsView view;
  const bool in_band = type == ext::records;
  if (!in_band) view.data = buffer(body);
  if (body.size() < 12) reject("the header of records is cut short");
  const auto pad = std::to_integer<std::size_t>(body[0]);
  const std::size_t text_size = get_le<std::uint16_t>(body.data() + 2);
  view.count = get_le<std::uint64_t>(body.data() + 4);
  if (body.size() < 12 + text_size + pad) reject("the header of records is cut short");
  const std::string_view found = as_text(body.subspan(12, text_size));
  if (found != description) {
    reject(fmt::format("expected records {}, found records {}; both programs must use the same struct",
                       description, printable(found)));
  }
  const ByteView rest = body.subspan(12 + text_size + pad);
  if (in_band) view.data = rest;
  std::uint64_t size = 0;
  if (__builtin_mul_overflow(std::uint64_t{view.count}, std::uint64_t{record_size}, &size) ||
      size != view.data.size() || (!in_band && !rest.empty())) {
    reject(fmt::format("{} records of {} bytes do not match the {} bytes that came", view.count, record_size,
                       view.data.size()));
  }
  return view;
}

// ---- Containers.

std::size_t Reader::array() {
  if (at_end()) expected("an array");
  const unsigned first = std::to_integer<unsigned>(*next_);
  std::size_t size = 0;
  if ((first & 0xf0) == mark::fixarray) {
    ++next_;
    size = first & 0x0f;
  } else if (first == mark::array16 || first == mark::array32) {
    ++next_;
    size = big_endian(first == mark::array16 ? 2 : 4);
  } else {
    expected("an array");
  }
  if (size > left())
    reject(fmt::format("an array of {} is announced, but only {} bytes are left", size, left()));
  return size;
}

void Reader::other_array_of(std::size_t size) {
  if (peek() != Type::array) expected(fmt::format("an array of {}", size));
  const std::size_t found = array();
  if (found != size) reject(fmt::format("expected an array of {}, found an array of {}", size, found));
}

std::size_t Reader::map() {
  if (at_end()) expected("a map");
  const unsigned first = std::to_integer<unsigned>(*next_);
  std::size_t size = 0;
  if ((first & 0xf0) == mark::fixmap) {
    ++next_;
    size = first & 0x0f;
  } else if (first == mark::map16 || first == mark::map32) {
    ++next_;
    size = big_endian(first == mark::map16 ? 2 : 4);
  } else {
    expected("a map");
  }
  if (size > left() / 2)
    reject(fmt::format("a map of {} pairs is announced, but only {} bytes are left", size, left()));
  return size;
}

Type Reader::peek() const noexcept {
  if (at_end()) return Type::end;
  const unsigned first = std::to_integer<unsigned>(*next_);
  if (first < mark::fixmap || first >= mark::negative_fixint) return Type::integer;
  if (first < mark::fixarray) return Type::map;
  if (first < mark::fixstr) return Type::array;
  if (first < mark::nil) return Type::string;
  if (first >= mark::str8) {
    return first <= mark::str32 ? Type::string : first <= mark::array32 ? Type::array : Type::map;
  }
  if (first >= mark::uint8 && first <= mark::int64) return Type::integer;
  if (first == mark::nil) return Type::nil;
  if (first == mark::never_used) return Type::invalid;
  if (first <= mark::boolean_true) return Type::boolean;
  if (first <= mark::bin32) return Type::binary;
  if (first == mark::float32 || first == mark::float64) return Type::real;
  const std::size_t type_at = first <= mark::ext32 ? 1 + (std::size_t{1} << (first - mark::ext8)) : 1;
  if (type_at < left()) {
    const auto type = static_cast<std::int8_t>(next_[type_at]);
    if (type == ext::out_of_band_binary) return Type::binary;
    if (type == ext::out_of_band_string) return Type::string;
  }
  return Type::ext;
}

void Reader::skip() {
  std::uint64_t pending = 1;  // values; at most one for each byte left
  while (pending != 0) {
    --pending;
    switch (peek()) {
      case Type::end:
        expected("a value");
        break;
      case Type::nil:
        nil();
        break;
      case Type::boolean:
        boolean();
        break;
      case Type::integer:
        wide_integer();
        break;
      case Type::real:
        other_real();
        break;
      case Type::string:
        string();
        break;
      case Type::binary:
        binary();
        break;
      case Type::array:
        pending += array();
        break;
      case Type::map:
        pending += 2 * map();
        break;
      case Type::ext:
        ext_value();
        break;
      case Type::invalid:
        expected("a value");
        break;
    }
    if (pending > left())
      reject(fmt::format("{} more values are announced, but only {} bytes are left", pending, left()));
  }
}

}  // namespace manyhands::wire
