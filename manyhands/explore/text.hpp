#pragma once
// What an outcome of mh::explore looks like, and when two are the same.
//
// Text: numbers, characters, enums and strings; what can be printed with <<; and ranges, pairs, tuples,
// optionals, variants and plain structs of all these.

#include <boost/pfr/core.hpp>
#include <charconv>
#include <concepts>
#include <optional>
#include <ranges>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace manyhands::exploring {

// ---- Kinds of types.

template <class T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;

template <class T>
concept TupleLike = requires { std::tuple_size<T>::value; } && !std::ranges::range<T>;

template <class T>
concept PlainStruct = std::is_aggregate_v<T> && std::is_class_v<T>;

template <class T>
constexpr bool has_text();
template <class T, std::size_t... I>
constexpr bool elements_have_text(std::index_sequence<I...>) {
  return (has_text<std::remove_cvref_t<std::tuple_element_t<I, T>>>() && ...);
}
template <class T>
constexpr bool has_text() {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::monostate> ||
                std::is_convertible_v<const T&, std::string_view>) {
    return true;
  } else if constexpr (is_optional<T>) {
    return has_text<typename T::value_type>();
  } else if constexpr (is_variant<T>) {
    return []<class... U>(std::type_identity<std::variant<U...>>) {
      return (has_text<U>() && ...);
    }(std::type_identity<T>{});
  } else if constexpr (Streamable<T>) {
    return true;
  } else if constexpr (std::ranges::input_range<const T&>) {
    return has_text<std::remove_cvref_t<std::ranges::range_reference_t<const T&>>>();
  } else if constexpr (TupleLike<T>) {
    return elements_have_text<T>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else {
    return PlainStruct<T>;
  }
}

// ---- Text.

template <class T>
void append_text(std::string& to, const T& value, bool inside);

// "(a, b)"
template <class Tuple>
void append_elements(std::string& to, const Tuple& values, char open, char close) {
  to += open;
  std::apply(
      [&](const auto&... value) {
        bool first = true;
        ((to += std::exchange(first, false) ? "" : ", ", append_text(to, value, true)), ...);
      },
      values);
  to += close;
}

// `inside` something else, strings have quotes.
template <class T>
void append_text(std::string& to, const T& value, bool inside) {
  if constexpr (std::is_same_v<T, std::monostate>) {
    to += inside ? "{}" : "done";
  } else if constexpr (std::is_same_v<T, bool>) {
    to += value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, char>) {
    to += '\'';
    to += value;
    to += '\'';
  } else if constexpr (std::is_arithmetic_v<T>) {
    if constexpr (std::is_integral_v<T> && sizeof(T) < sizeof(int)) {
      append_text(to, static_cast<int>(value), inside);
    } else if constexpr (std::is_integral_v<T> && !requires(char* at) { std::to_chars(at, at, value); }) {
      append_text(to, static_cast<unsigned long>(value), inside);  // wide characters
    } else {
      char text[64];
      to.append(text, std::to_chars(text, text + sizeof text, value).ptr);
    }
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    if (inside) to += '"';
    to += std::string_view(value);
    if (inside) to += '"';
  } else if constexpr (is_optional<T>) {
    if (value.has_value()) {
      append_text(to, *value, inside);
    } else {
      to += "nothing";
    }
  } else if constexpr (is_variant<T>) {
    std::visit([&](const auto& held) { append_text(to, held, inside); }, value);
  } else if constexpr (Streamable<T>) {
    std::ostringstream out;
    out << value;
    to += out.str();
  } else if constexpr (std::is_enum_v<T>) {
    append_text(to, static_cast<std::underlying_type_t<T>>(value), inside);
  } else if constexpr (std::ranges::input_range<const T&>) {
    to += '[';
    bool first = true;
    for (const auto& element : value) {
      to += std::exchange(first, false) ? "" : ", ";
      append_text(to,
                  static_cast<const std::remove_cvref_t<std::ranges::range_reference_t<const T&>>&>(element),
                  true);
    }
    to += ']';
  } else if constexpr (TupleLike<T>) {
    append_elements(to, value, '(', ')');
  } else {
    append_elements(to, boost::pfr::structure_tie(value), '{', '}');
  }
}

template <class T>
std::string text_of(const T& value) {
  std::string text;
  append_text(text, value, false);
  return text;
}

// ---- Equality: by ==, and for what has none, or is not equal to itself as a NaN, by text.

template <std::equality_comparable T>
bool equals_itself(const T& value) {
  const T& same = value;
  return value == same;
}

template <class T>
bool same_value(const T& a, const T& b) {
  if constexpr (std::equality_comparable<T>) {
    if (a == b) return true;
    if (equals_itself(a) && equals_itself(b)) return false;
  }
  return text_of(a) == text_of(b);
}

}  // namespace manyhands::exploring
