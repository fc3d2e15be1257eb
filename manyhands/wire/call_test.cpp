#include "manyhands/wire/call.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace manyhands::wire {
namespace {

struct Answer final : Reply {
  Writer& writer() override {
    packed.clear();
    return packed;
  }
  void value(const Writer& w) override { bytes.assign(w.bytes().begin(), w.bytes().end()); }
  Writer packed;
  std::vector<std::byte> bytes;
};

// Packs the call, finds its thunk as a worker would, runs it, and returns the packed answer.
template <class F, class... Args>
std::vector<std::byte> call(const F& f, const Args&... args) {
  Writer writer;
  pack_call(writer, f, Reach::other_process, args...);
  const auto thunk = reinterpret_cast<CallThunk>(const_cast<void*>(address_of(call_thunk<F, Args...>())));
  Reader reader(writer.bytes());
  Answer answer;
  thunk(reader, answer);
  CHECK(reader.at_end());
  return answer.bytes;
}

int add(int a, int b) { return a + b; }

TEST_CASE("a call travels as thunk, state and arguments") {
  CHECK(from_bytes<int>(call(&add, 20, 22)) == 42);
  const double k = 3;
  CHECK(from_bytes<double>(call([k](double x) { return k * x; }, 2.0)) == 6.0);
  CHECK(from_bytes<std::string>(call([](std::string& s) { return s += "!"; }, std::string("hi"))) == "hi!");
}

TEST_CASE("a function of nothing and a function to nothing") {
  CHECK(from_bytes<int>(call([] { return 7; })) == 7);
  CHECK(call([](int) {}, 1).empty());
}

TEST_CASE("borrowed text travels as a string") {
  static_assert(std::is_same_v<Travelling<const char(&)[6]>, std::string>);
  static_assert(std::is_same_v<Travelling<std::string_view>, std::string>);
  static_assert(std::is_same_v<Travelling<const std::vector<int>&>, std::vector<int>>);
}

struct ArrayIo final : RangeIo {
  void starting() override { ++started; }
  void computed() override { ++ended; }
  Reader item(std::uint64_t index) override { return Reader(items.at(index)); }
  Writer& writer() override {
    packed.clear();
    return packed;
  }
  void result(std::uint64_t index, const Writer& w) override {
    results.resize(std::max<std::size_t>(results.size(), index + 1));
    results[index].assign(w.bytes().begin(), w.bytes().end());
  }
  int started = 0;
  int ended = 0;
  Writer packed;
  std::vector<std::vector<std::byte>> items;
  std::vector<std::vector<std::byte>> results;
};

template <class F, class T>
std::unique_ptr<RangeRunner> runner_of(const F& f) {
  Writer writer;
  pack_callable(writer, f);
  Reader reader(writer.bytes());
  return reinterpret_cast<RangeThunk>(const_cast<void*>(address_of(range_thunk<F, T>())))(reader);
}

TEST_CASE("a range of plain items goes from array to array and leaves its journal at the end") {
  const auto square = [](double x) { return x * x; };
  const std::vector<double> in{1, 2, 3, 4};
  std::vector<double> out(4, -1);
  std::atomic<std::uint64_t> current{0};
  std::atomic<std::uint32_t> stop{0};
  ArrayIo io;
  io.begin = 1;
  io.end = 3;
  io.input = reinterpret_cast<const std::byte*>(in.data());
  io.output = reinterpret_cast<std::byte*>(out.data());
  io.current = &current;
  io.stop = &stop;
  io.watched = true;
  runner_of<decltype(square), double>(square)->run(io);
  CHECK(out == std::vector<double>{-1, 4, 9, -1});
  CHECK(current == 3);
  CHECK(io.started == 2);
  CHECK(io.ended == 2);
  stop = 1;
  out[1] = 0;
  runner_of<decltype(square), double>(square)->run(io);
  CHECK(out[1] == 0);
}

TEST_CASE("packed items give packed results, and an exception leaves the journal at its item") {
  const auto shout = [](const std::string& s) -> std::string {
    if (s.empty()) throw std::runtime_error("nothing to shout");
    return s + "!";
  };
  std::atomic<std::uint64_t> current{99};
  std::atomic<std::uint32_t> stop{0};
  ArrayIo io;
  io.items = {to_bytes(std::string("a")), to_bytes(std::string()), to_bytes(std::string("c"))};
  io.end = 3;
  io.current = &current;
  io.stop = &stop;
  CHECK_THROWS_AS((runner_of<std::decay_t<decltype(shout)>, std::string>(shout)->run(io)),
                  std::runtime_error);
  CHECK(current == 1);
  CHECK(from_bytes<std::string>(io.results.at(0)) == "a!");
}

}  // namespace
}  // namespace manyhands::wire
