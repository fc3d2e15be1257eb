#include "manyhands/wire/callable.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
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
  const auto greet =
      bind([](const std::string& a, const std::string& b) { return a + b; }, std::string("hello "));
  CHECK(travel(greet)("world") == "hello world");
  CHECK(travel(bind(greet, "you"))() == "hello you");
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
