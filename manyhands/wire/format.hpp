#pragma once
// The bytes of the wire format: MessagePack's first bytes, and the extension types that manyhands adds.
//
// docs/wire.md is the specification for other languages; this header is its table. Multi-byte numbers of
// MessagePack itself are big-endian; everything inside the body of our extension types is little-endian.
// Source: https://github.com/msgpack/msgpack/blob/master/spec.md

#include <cstddef>
#include <cstdint>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "arrays travel as the host's bytes, which must be little-endian");

namespace manyhands::wire {

// How many containers within containers a value may have by default: 10'000, or what the environment variable
// MANYHANDS_MAX_DEPTH said when it was first asked for.
std::size_t default_max_depth();

// A threshold that no buffer reaches: everything stays in the message.
inline constexpr std::size_t never_out_of_band = SIZE_MAX;

// First bytes. Those with a range hold a small value or length in their low bits.
namespace mark {
inline constexpr std::uint8_t positive_fixint = 0x00;  // 0x00..0x7f: 0..127
inline constexpr std::uint8_t fixmap = 0x80;           // 0x80..0x8f: 0..15 pairs
inline constexpr std::uint8_t fixarray = 0x90;         // 0x90..0x9f: 0..15 elements
inline constexpr std::uint8_t fixstr = 0xa0;           // 0xa0..0xbf: 0..31 bytes
inline constexpr std::uint8_t nil = 0xc0;
inline constexpr std::uint8_t never_used = 0xc1;
inline constexpr std::uint8_t boolean_false = 0xc2;
inline constexpr std::uint8_t boolean_true = 0xc3;
inline constexpr std::uint8_t bin8 = 0xc4, bin16 = 0xc5, bin32 = 0xc6;
inline constexpr std::uint8_t ext8 = 0xc7, ext16 = 0xc8, ext32 = 0xc9;
inline constexpr std::uint8_t float32 = 0xca, float64 = 0xcb;
inline constexpr std::uint8_t uint8 = 0xcc, uint16 = 0xcd, uint32 = 0xce, uint64 = 0xcf;
inline constexpr std::uint8_t int8 = 0xd0, int16 = 0xd1, int32 = 0xd2, int64 = 0xd3;
inline constexpr std::uint8_t fixext1 = 0xd4, fixext2 = 0xd5, fixext4 = 0xd6, fixext8 = 0xd7, fixext16 = 0xd8;
inline constexpr std::uint8_t str8 = 0xd9, str16 = 0xda, str32 = 0xdb;
inline constexpr std::uint8_t array16 = 0xdc, array32 = 0xdd;
inline constexpr std::uint8_t map16 = 0xde, map32 = 0xdf;
inline constexpr std::uint8_t negative_fixint = 0xe0;  // 0xe0..0xff: -32..-1
}  // namespace mark

// Extension types. The codes are part of the format: never change or reuse one. 0 and 20..127 are free for
// users.
namespace ext {
inline constexpr std::int8_t typed_array = 1;  // {dtype, shape} and the elements' bytes
inline constexpr std::int8_t records = 2;      // {description, count} and the bytes of plain structs
// {index, size}: a bin that lies in a buffer beside the message.
inline constexpr std::int8_t out_of_band_binary = 3;
inline constexpr std::int8_t out_of_band_string = 4;       // {index, size}: a str that lies in a buffer
inline constexpr std::int8_t out_of_band_typed_array = 5;  // {index, size, dtype, shape}
inline constexpr std::int8_t out_of_band_records = 6;      // {index, size, description, count}
inline constexpr std::int8_t shared_memory = 7;  // handle of a segment shared by processes of one host
inline constexpr std::int8_t function = 8;       // {module build-id, offset, captured state}
inline constexpr std::int8_t error = 9;          // an exception that travels: type, message, trace, place
inline constexpr std::int8_t name = 10;          // reference to a name in an engine's namespace
}  // namespace ext

// An element type of a typed array, as in NumPy: kind 'b' bool, 'i' signed, 'u' unsigned, 'f' floating, 'c'
// complex, and the bytes of one element.
struct Dtype {
  char kind = 0;
  std::uint8_t size = 0;
  friend bool operator==(const Dtype&, const Dtype&) = default;
};

inline constexpr std::size_t max_rank = 8;  // dimensions of a typed array

}  // namespace manyhands::wire
