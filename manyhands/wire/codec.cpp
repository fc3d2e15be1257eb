#include "manyhands/wire/codec.hpp"

#include <fmt/format.h>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire::detail {
namespace {

std::string text_of(Dtype dtype, const std::size_t* shape, std::size_t rank) {
  std::string text = fmt::format("{}{}", dtype.kind, dtype.size);
  for (std::size_t i = 0; i < rank; ++i) fmt::format_to(std::back_inserter(text), "[{}]", shape[i]);
  return text;
}

}  // namespace

Elements typed_elements(Reader& reader, Dtype dtype, const std::size_t* inner, std::size_t inner_rank) {
  const TypedArrayView view = reader.typed_array();
  bool same = view.dtype == dtype && view.rank == inner_rank + 1;
  for (std::size_t i = 0; same && i < inner_rank; ++i) same = view.shape[i + 1] == inner[i];
  if (!same) {
    std::size_t wanted[max_rank + 1] = {};
    for (std::size_t i = 0; i < inner_rank; ++i) wanted[i + 1] = inner[i];
    std::string expected = text_of(dtype, wanted, inner_rank + 1);
    expected.replace(expected.find("[0]"), 3, "[n]");
    reader.reject(fmt::format("expected an array {}, found an array {}", expected,
                              text_of(view.dtype, view.shape, view.rank)));
  }
  if (dtype.kind == 'b') check_bools(view.data);
  return {view.shape[0], view.data};
}

void expect_count(Reader& reader, std::size_t found, std::size_t size) {
  if (found != size) [[unlikely]] {
    reader.reject(fmt::format("expected an array of {}, found an array of {}", size, found));
  }
}

void reject_valueless() {
  throw WireError("wire: cannot pack a variant that holds no value (valueless_by_exception)");
}

void reject_alternative(Reader& reader, std::size_t index, std::size_t count) {
  reader.reject(fmt::format("expected the index of one of {} alternatives, found {}", count, index));
}

void expect_end(const Reader& reader) {
  if (!reader.at_end()) {
    reader.reject(fmt::format("expected the end of the message, found {} more bytes", reader.left()));
  }
}

}  // namespace manyhands::wire::detail
