#include "manyhands/wire/records.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire::detail {
namespace {

[[noreturn]] void reject_bool(std::byte found, std::size_t index) {
  throw WireError(fmt::format("wire: element {} holds a bool of value {}, expected 0 or 1", index,
                              std::to_integer<unsigned>(found)));
}

}  // namespace

void RecordType::field(std::size_t offset) {
  fmt::format_to(std::back_inserter(description), "@{},", offset);
}

void RecordType::end_struct(std::size_t size_bytes) {
  if (description.back() == ',') description.pop_back();
  fmt::format_to(std::back_inserter(description), "}}{}", size_bytes);
}

void RecordType::number(Dtype dtype, std::size_t offset) {
  fmt::format_to(std::back_inserter(description), "{}{}", dtype.kind, dtype.size);
  if (dtype.kind == 'b') bool_offsets.push_back(offset);
}

void RecordType::array(std::size_t length) {
  fmt::format_to(std::back_inserter(description), "[{}]", length);
}

void RecordType::repeat_bools(std::size_t from, std::size_t length, std::size_t stride) {
  const std::size_t until = bool_offsets.size();
  for (std::size_t i = 1; i < length; ++i) {
    for (std::size_t b = from; b < until; ++b) bool_offsets.push_back(bool_offsets[b] + i * stride);
  }
}

void check_bools(const RecordType& type, ByteView data) {
  for (std::size_t at = 0; at + type.size <= data.size(); at += type.size) {
    for (const std::size_t offset : type.bool_offsets) {
      if (data[at + offset] > std::byte{1}) [[unlikely]]
        reject_bool(data[at + offset], at / type.size);
    }
  }
}

void check_bools(ByteView data) {
  for (const std::byte& b : data) {
    if (b > std::byte{1}) [[unlikely]]
      reject_bool(b, static_cast<std::size_t>(&b - data.data()));
  }
}

void advise_huge_pages(void* begin, std::size_t size) noexcept {
  constexpr std::size_t from = std::size_t{4} << 20;
  if (size < from) return;
  static const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t skipped = round_up(address, page) - address;
  const std::size_t whole = (size - skipped) & ~(page - 1);
  ::madvise(static_cast<std::byte*>(begin) + skipped, whole, MADV_HUGEPAGE);
}

}  // namespace manyhands::wire::detail
