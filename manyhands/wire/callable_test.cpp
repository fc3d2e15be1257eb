#include "manyhands/wire/callable.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

double cube(double x) { return x * x * x; }

struct Scale {  // an aggregate function object
  std::vector<double> factors;
  double operator()(std::size_t i) const { return factors.at(i); }
};

template <class F>
F travel(const F& f, Reach reach = Reach::other_process) {
  Writer writer;
  pack_callable(writer, f, reach);
  Reader reader(writer.bytes());
  F arrived = unpack_callable<F>(reader);
  CHECK(reader.at_end());
  return arrived;
}

TEST_CASE("plain functions, lambdas and function objects arrive and can be called") {
  CHECK(travel(&cube)(3.0) == 27.0);
  CHECK(travel([](int x) { return x + 1; })(1) == 2);
  const int k = 5;
  CHECK(travel([k](int x) { return x * k; })(3) == 15);
  CHECK(travel(Scale{{1.5, 2.5}})(1) == 2.5);
}

TEST_CASE("bind carries any packable state, and binds around binds") {
  const auto greet = manyhands::bind([](const std::string& a, const std::string& b) { return a + b; },
                                     std::string("hello "));
  CHECK(travel(greet)("world") == "hello world");
  CHECK(travel(manyhands::bind(greet, "you"))() == "hello you");
}

TEST_CASE("a captureless lambda costs no bytes") {
  Writer writer;
  pack_callable(writer, [] {});
  CHECK(writer.bytes().empty());
}

TEST_CASE("what cannot travel is known at compile time") {
  const auto text = std::make_unique<int>(1);
  auto by_move = [p = std::make_unique<int>(1)] { return *p; };
  auto by_string = [s = std::string("x")] { return s; };
  CHECK_FALSE(TravellingCallable<decltype(by_move)>);
  CHECK_FALSE(TravellingCallable<decltype(by_string)>);
  CHECK(TravellingCallable<decltype(&cube)>);
  CHECK_FALSE(TravellingCallable<Bound<decltype(by_string), int>>);
}

TEST_CASE("a capture by reference is found before it becomes a wild pointer") {
  int local = 1;
  const auto by_reference = [&local] { return local; };
  Writer writer;
  CHECK_THROWS_WITH_AS(pack_callable(writer, by_reference), doctest::Contains("by reference"), Error);
  CHECK(travel(by_reference, Reach::forked_now)() == 1);
  const double factor = 2;
  const auto two = [&local, factor] { return local * factor; };
  CHECK_THROWS_WITH_AS(pack_callable(writer, two), doctest::Contains("by reference"), Error);
}

struct Model {
  double factor = 2;
  auto function() const {
    return [this](double x) { return factor * x; };
  }
  auto scaled(double k) const {
    return [this, k](double x) { return k * factor * x; };
  }
};

TEST_CASE("a captured pointer to the heap is refused, with the remedy") {
  const auto model = std::make_unique<Model>();
  const std::vector<double> table(1000, 7.0);
  const std::span<const double> view(table);
  const std::string text(1000, 'x');
  const std::string_view words(text);
  Writer writer;
  const auto refuses = [&](const auto& f) {
    CHECK_THROWS_WITH_AS(pack_callable(writer, f), doctest::Contains("mh::bind"), Error);
  };
  refuses(model->function());
  refuses([view] { return view[0]; });
  refuses([words] { return words[0]; });
  refuses([p = model.get()] { return p->factor; });
}

// Leaves addresses of the stack and of the heap behind, as any function does.
[[gnu::noinline]] void dirty(const void* heap) {
  const void* volatile words[512];
  for (std::size_t i = 0; i < 512; ++i)
    words[i] = i % 2 == 0 ? const_cast<const void*>(static_cast<const volatile void*>(words)) : heap;
}
[[gnu::noinline]] double call_with_flag(bool flag, double k) {
  return travel([flag, k](double x) { return flag ? k * x : x; })(2.0);
}
[[gnu::noinline]] double call_with_optional(double k) {
  std::optional<double> limit;
  std::optional<std::string_view> name;
  return travel([limit, name, k](double x) { return limit || name ? 0 : k * x; })(2.0);
}
[[gnu::noinline]] double call_with_array(const char* name) {
  std::array<double, 4> few;
  few[0] = 3;  // the others are not used
  std::array<const void*, 4> places;
  places[0] = nullptr;
  return travel(
      [few, places, name](double x) { return *name == 'n' && places[0] == nullptr ? few[0] * x : 0; })(2.0);
}

#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
TEST_CASE("what lies between and behind the members of a closure is not taken for a pointer") {
  const auto heap = std::make_unique<double>(1);
  for (int i = 0; i < 3; ++i) {
    dirty(heap.get());
    CHECK(call_with_flag(true, 2) == 4);
    dirty(heap.get());
    CHECK(call_with_optional(2) == 4);
    dirty(heap.get());
    CHECK(call_with_array("name") == 6);
    dirty(heap.get());
    CHECK(travel(std::bind_front(cube))(2.0) == 8);
  }
}
#pragma GCC diagnostic pop

TEST_CASE("a captured pointer that may be none becomes one whose use can be told") {
  const auto model = std::make_unique<Model>();
  const auto here = std::bit_cast<std::array<std::uint64_t, 2>>(travel(model->scaled(3)));
  CHECK(captured_pointer_text(here[0]).find("bytes 0-7 of its captures point into the caller's heap") !=
        std::string::npos);
  CHECK_FALSE(captured_pointer_text(here[0] - 1000).empty());
  CHECK_FALSE(captured_pointer_text(here[0] + 1'000'000'000).empty());
  CHECK(here[1] == std::bit_cast<std::uint64_t>(3.0));
  CHECK(captured_pointer_text(reinterpret_cast<std::uint64_t>(model.get())).empty());
}

TEST_CASE("pointers to static data, literals and code travel as their places") {
  static const double constants[2] = {1, 2};
  const double* const at = constants + 1;
  const char* const name = "literal";
  const auto closure = [at, name, f = &cube, text = std::string_view("view")] {
    return f(*at) + static_cast<double>(std::strlen(name) + text.size());
  };
  CHECK(travel(closure)() == 19);
  CHECK(travel([none = static_cast<const double*>(nullptr)] { return none == nullptr; })());
}

TEST_CASE("a snapshot is refused unless the worker is forked at the call") {
  const auto closure = [text = std::string("kept")] { return text; };
  Writer writer;
  CHECK_THROWS_WITH_AS(pack_callable(writer, snapshot(closure)), doctest::Contains("Start::fork"), Error);
  CHECK(travel(snapshot(closure), Reach::forked_now)() == "kept");
}

TEST_CASE("closure bytes of the wrong size are refused") {
  Writer writer;
  writer.binary({});
  Reader reader(writer.bytes());
  const int k = 1;
  const auto closure = [k] { return k; };
  CHECK_THROWS_AS(unpack_callable<std::decay_t<decltype(closure)>>(reader)(), WireError);
}

}  // namespace
}  // namespace manyhands::wire
