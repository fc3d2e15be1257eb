#include "manyhands/wire/codec.hpp"

#define DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS  // CHECK_THROWS_AS of what is [[nodiscard]]
#include <doctest/doctest.h>
#include <pthread.h>

#include <chrono>
#include <complex>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "manyhands/wire/error.hpp"
#include "tests/hex.hpp"

namespace manyhands::wire {
namespace {

template <class T>
std::string packed(const T& value) {
  return hex(to_bytes(value));
}
template <class T>
T unpacked(std::string_view message) {
  return from_bytes<T>(from_hex(message));
}
// Packs and unpacks, in band and with everything out of band that can be.
template <class T>
void check_round_trip(const T& value) {
  CHECK(from_bytes<T>(to_bytes(value)) == value);
  Writer writer(1);
  pack(writer, value);
  Reader reader(writer.bytes(), writer.buffers());
  CHECK(unpack<T>(reader) == value);
  CHECK(reader.at_end());
}
// Every proper prefix of the message is an error.
template <class T>
void check_truncation(const T& value) {
  const std::vector<std::byte> message = to_bytes(value);
  for (std::size_t size = 0; size < message.size(); ++size) {
    const std::vector<std::byte> cut(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(size));
    CAPTURE(size);
    CHECK_THROWS_AS(from_bytes<T>(cut), WireError);
  }
}

enum class Color : std::uint8_t { red = 1, blue = 200 };
struct Point {
  double x;
  int y;
  bool operator==(const Point&) const = default;
};
struct Tiny {
  std::uint8_t a, b;
};
struct Flagged {
  int x;
  bool on;
  bool operator==(const Flagged&) const = default;
};
struct Arrays {
  float position[3];
  std::string names[2];
  int matrix[2][2];
  Point points[2];
  bool operator==(const Arrays&) const = default;
};
struct Person {
  std::string name;
  std::optional<int> age;
  std::vector<std::string> friends;
  std::map<std::string, double> scores;
  std::variant<int, std::string, Point> extra;
  std::tuple<int, Color> pair;
  bool operator==(const Person&) const = default;
};
struct Node {
  int value = 0;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
struct Empty {
  bool operator==(const Empty&) const = default;
};

// Has no default constructor, cannot be copied, and has a Codec.
class Ticket {
 public:
  explicit Ticket(int number) : number_(number) {}
  Ticket(Ticket&&) = default;
  Ticket& operator=(Ticket&&) = default;
  int number() const { return number_; }

 private:
  int number_;
};
struct Drawer {
  int id;
  Ticket ticket;
};

// Gives copies of its parts only, as many classes do; their Codecs pack what is gone when they return.
class Signal {
 public:
  Signal(std::string name, std::vector<double> samples)
      : name_(std::move(name)), samples_(std::move(samples)) {}
  std::string name() const { return name_; }
  std::vector<double> samples() const { return samples_; }
  bool operator==(const Signal&) const = default;

 private:
  std::string name_;
  std::vector<double> samples_;
};
struct Recording {
  Signal left;
  std::vector<double> times;
  Signal right;
  bool operator==(const Recording&) const = default;
};

// A container that makes its elements when one looks at them.
struct Texts {
  struct Iterator {
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string*;
    using reference = std::string;
    std::string operator*() const { return std::string(100, character); }
    Iterator& operator++() { return ++character, *this; }
    Iterator operator++(int) { return {character++}; }
    bool operator==(const Iterator&) const = default;
    char character;
  };
  using value_type = std::string;
  Iterator begin() const { return {'a'}; }
  Iterator end() const { return {static_cast<char>('a' + count)}; }
  std::size_t size() const { return count; }
  void clear() { count = 0; }
  void push_back(std::string&&) { ++count; }
  bool operator==(const Texts&) const = default;
  std::size_t count = 0;
};

}  // namespace

template <>
struct Codec<Ticket> {
  static void pack(Writer& writer, const Ticket& ticket) { writer.integer(ticket.number()); }
  static Ticket unpack(Reader& reader) { return Ticket(reader.integral<int>()); }
};

template <>
struct Codec<Signal> {
  static void pack(Writer& writer, const Signal& s) { wire::pack(writer, std::tuple(s.name(), s.samples())); }
  static Signal unpack(Reader& reader) {
    return std::make_from_tuple<Signal>(wire::unpack<std::tuple<std::string, std::vector<double>>>(reader));
  }
};

namespace {

TEST_CASE("every type has its form on the wire") {
  CHECK(packed(true) == "c3");
  CHECK(packed('a') == "61");
  CHECK(packed(-1) == "ff");
  CHECK(packed(300U) == "cd012c");
  CHECK(packed(1.0F) == "ca3f800000");
  CHECK(packed(1.0) == "cb3ff0000000000000");
  CHECK(packed(Color::blue) == "ccc8");
  CHECK(packed(std::string("hi")) == "a26869");
  CHECK(packed(std::filesystem::path("/tmp")) == "a42f746d70");
  CHECK(packed(nullptr) == "c0");
  CHECK(packed(std::monostate{}) == "c0");
  CHECK(packed(std::optional<int>{}) == "c0");
  CHECK(packed(std::optional<int>{5}) == "05");
  CHECK(packed(std::optional<std::optional<int>>{std::optional<int>{}}) == "91c0");
  CHECK(packed(std::make_unique<int>(5)) == "05");
  CHECK(packed(std::unique_ptr<int>{}) == "c0");
  CHECK(packed(std::pair<int, bool>{1, false}) == "9201c2");
  CHECK(packed(std::tuple<>{}) == "90");
  CHECK(packed(std::variant<int, bool>{true}) == "9201c3");
  CHECK(packed(std::complex<float>{1, 0}) == "92ca3f800000ca00000000");
  CHECK(packed(std::chrono::milliseconds{5}) == "05");
  CHECK(packed(std::chrono::sys_seconds{std::chrono::seconds{7}}) == "07");
  CHECK(packed(std::list<int>{1, 2}) == "920102");
  CHECK(packed(std::set<int>{2, 1}) == "920102");
  CHECK(packed(std::map<int, bool>{{1, true}}) == "8101c3");
  CHECK(packed(std::vector<std::string>{"a"}) == "91a161");
  CHECK(packed(std::vector<std::byte>{std::byte{7}}) == "c40107");
  CHECK(packed(std::array<std::byte, 1>{std::byte{7}}) == "c40107");
  CHECK(packed(std::vector<int>{1}) ==
        "c71001"
        "69040100"
        "0100000000000000"
        "01000000");
  CHECK(packed(std::vector<bool>{true}) == "91c3");
  CHECK(packed(std::vector<std::array<std::uint8_t, 2>>{{1, 2}}) ==
        "c71601"
        "75010200"
        "0100000000000000"
        "0200000000000000"
        "0102");
  CHECK(packed(Point{1, 2}) == "92cb3ff000000000000002");
  CHECK(packed(Empty{}) == "90");
  CHECK(packed(std::vector<Tiny>{{1, 2}}) ==
        "c71a02"
        "00000c00"
        "0100000000000000"
        "7b753140302c753140317d32"
        "0102");
}

TEST_CASE("numbers come back as they were, at their limits too") {
  const auto limits = []<class... T>(std::tuple<T...>*) {
    (check_round_trip(std::numeric_limits<T>::min()), ...);
    (check_round_trip(std::numeric_limits<T>::max()), ...);
    (check_round_trip(std::numeric_limits<T>::lowest()), ...);
    (check_round_trip(T{1}), ...);
  };
  limits(static_cast<std::tuple<bool, char, signed char, unsigned char, short, unsigned short, int, unsigned,
                                long, unsigned long, long long, unsigned long long, wchar_t, char8_t,
                                char16_t, char32_t, float, double, long double>*>(nullptr));
  check_round_trip(Color::red);
  check_round_trip(std::complex<double>{1, -2});
  check_round_trip(std::byte{255});
}

TEST_CASE("strings, times and paths come back as they were") {
  check_round_trip(std::string());
  check_round_trip(std::string("with \0 inside", 13));
  check_round_trip(std::string(70'000, 'x'));
  check_round_trip(std::filesystem::path("/usr/include"));
  check_round_trip(std::chrono::nanoseconds{-5});
  check_round_trip(std::chrono::duration<double>{0.5});
  check_round_trip(std::chrono::system_clock::now());
  check_round_trip(std::u16string(u"wide"));
}

TEST_CASE("containers come back as they were") {
  check_round_trip(std::vector<double>{1, 2, 3});
  check_round_trip(std::vector<double>{});
  check_round_trip(std::vector<bool>{true, false, true});
  check_round_trip(std::vector<std::byte>{std::byte{1}, std::byte{2}});
  check_round_trip(std::vector<std::complex<float>>{{1, 2}, {3, 4}});
  check_round_trip(std::vector<Color>{Color::red, Color::blue});
  check_round_trip(std::vector<long double>{1.5L, -2.5L});
  check_round_trip(std::vector<std::vector<int>>{{1}, {}, {2, 3}});
  check_round_trip(std::vector<std::array<float, 3>>{{1, 2, 3}, {4, 5, 6}});
  check_round_trip(std::vector<Point>{{1, 2}, {3, 4}});
  check_round_trip(std::vector<std::array<Point, 2>>{{{{1, 2}, {3, 4}}}});
  check_round_trip(std::vector<Flagged>{{1, true}, {2, false}});
  check_round_trip(std::vector<Empty>(3));
  check_round_trip(std::vector<std::monostate>(3));
  check_round_trip(std::vector<std::array<int, 0>>(2));
  check_round_trip(std::array<int, 0>{});
  check_round_trip(std::array<bool, 3>{true, false, true});
  check_round_trip(std::array<std::array<short, 2>, 2>{{{1, 2}, {3, 4}}});
  check_round_trip(std::array<std::string, 2>{"a", "b"});
  check_round_trip(std::array<Point, 2>{{{1, 2}, {3, 4}}});
  check_round_trip(std::deque<int>{1, 2});
  check_round_trip(std::list<std::string>{"a", "b"});
  check_round_trip(std::set<std::string>{"a", "b"});
  check_round_trip(std::multiset<int>{1, 1});
  check_round_trip(std::unordered_set<int>{1, 2, 3});
  check_round_trip(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
  check_round_trip(std::unordered_map<int, std::string>{{1, "x"}, {2, "y"}});
  check_round_trip(std::multimap<int, int>{{1, 1}, {1, 2}});
}

TEST_CASE("optionals, variants, tuples and structs come back as they were") {
  check_round_trip(std::optional<std::optional<int>>{});
  check_round_trip(std::optional<std::optional<int>>{std::optional<int>{}});
  check_round_trip(std::optional<std::optional<int>>{5});
  check_round_trip(std::optional<std::monostate>{std::monostate{}});
  check_round_trip(std::variant<std::monostate, int, int>{std::in_place_index<2>, 5});
  check_round_trip(std::tuple<int, std::string, std::tuple<double>>{1, "x", {2.0}});
  check_round_trip(Empty{});
  check_round_trip(Person{"Ada", 36, {"Charles"}, {{"maths", 1.0}}, Point{1, 2}, {7, Color::blue}});
  check_round_trip(Arrays{{1, 2, 3}, {"a", "b"}, {{1, 2}, {3, 4}}, {{1, 2}, {3, 4}}});
}

TEST_CASE("a tree of nodes comes back as it was") {
  Node root{1, {}, std::make_unique<Node>()};
  root.children.push_back(Node{2, {}, nullptr});
  root.next->value = 3;
  const Node copy = from_bytes<Node>(to_bytes(root));
  CHECK(copy.value == 1);
  REQUIRE(copy.children.size() == 1);
  CHECK(copy.children[0].value == 2);
  REQUIRE(copy.next);
  CHECK(copy.next->value == 3);
}

TEST_CASE("a type without default constructor and copies travels by its Codec, alone and within others") {
  CHECK(from_bytes<Ticket>(to_bytes(Ticket(7))).number() == 7);
  CHECK(from_bytes<Drawer>(to_bytes(Drawer{1, Ticket(8)})).ticket.number() == 8);
  std::vector<Ticket> tickets;
  tickets.emplace_back(9);
  CHECK(from_bytes<std::vector<Ticket>>(to_bytes(tickets)).at(0).number() == 9);
  CHECK(from_bytes<std::array<Ticket, 1>>(to_bytes(std::array<Ticket, 1>{Ticket(10)}))[0].number() == 10);
  CHECK(from_bytes<std::optional<Ticket>>(to_bytes(std::optional<Ticket>(11)))->number() == 11);
  std::map<int, std::unique_ptr<Ticket>> by_id;
  by_id.emplace(1, std::make_unique<Ticket>(12));
  const auto copy = from_bytes<std::map<int, std::unique_ptr<Ticket>>>(to_bytes(by_id));
  CHECK(copy.at(1)->number() == 12);
}

TEST_CASE("what a Codec makes while it packs is copied before it is gone") {
  check_round_trip(Signal("x", std::vector<double>(1000, 1.0)));
  check_round_trip(Recording{Signal("left", std::vector<double>(1000, 1.0)), std::vector<double>(1000, 2.0),
                             Signal("right", std::vector<double>(1000, 3.0))});
  check_round_trip(std::vector<Signal>(3, Signal("y", std::vector<double>(1000, 4.0))));
}

TEST_CASE("temporaries are copied, elements that are made on the way too") {
  const auto numbers = [](double value) { return std::vector<double>(1000, value); };
  Writer writer(1);
  pack(writer, numbers(1));
  pack(writer, std::tuple(numbers(2), numbers(3)));
  check_round_trip(Texts{26});
  check_round_trip(std::complex<long double>(1, 2));
  Reader reader(writer.bytes(), writer.buffers());
  CHECK(unpack<std::vector<double>>(reader) == numbers(1));
  CHECK(unpack<std::tuple<std::vector<double>, std::vector<double>>>(reader) ==
        std::tuple(numbers(2), numbers(3)));
}

TEST_CASE("the buffers of a value that stays are borrowed") {
  const std::vector<std::string> texts(3, std::string(1000, 'x'));
  Writer writer(1);
  pack(writer, texts);
  REQUIRE(writer.buffers().size() == 3);
  CHECK(as_text(writer.buffers()[1]).data() == texts[1].data());
}

TEST_CASE("an array may also come element by element, as other languages write it") {
  CHECK(unpacked<std::vector<int>>("93010203") == std::vector<int>{1, 2, 3});
  CHECK(unpacked<std::vector<bool>>("c70e01 62010100 0200000000000000 0100") ==
        std::vector<bool>{true, false});
  CHECK(unpacked<std::array<double, 2>>("920102") == std::array<double, 2>{1, 2});
  CHECK(unpacked<std::vector<Point>>("91920102") == std::vector<Point>{{1, 2}});
}

TEST_CASE("an array of another element type or shape is refused with both named") {
  try {
    (void)from_bytes<std::vector<double>>(to_bytes(std::vector<float>{1}));
    FAIL("no error");
  } catch (const WireError& error) {
    CHECK(std::string(error.what()).starts_with("wire: expected an array f8[n], found an array f4[1]"));
  }
  CHECK_THROWS_AS((from_bytes<std::array<int, 3>>(to_bytes(std::array<int, 2>{}))), WireError);
  CHECK_THROWS_AS((from_bytes<std::vector<std::array<int, 3>>>(to_bytes(std::vector<std::array<int, 2>>(3)))),
                  WireError);
  CHECK_THROWS_AS(from_bytes<std::vector<Flagged>>(to_bytes(std::vector<Point>(1))), WireError);
}

TEST_CASE("arrays are read from bytes of any alignment") {
  const std::vector<double> numbers{1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<Point> points{{1, 2}, {3, 4}};
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const auto shifted = [shift](const std::vector<std::byte>& message) {
      std::vector<std::byte> out(shift);
      out.insert(out.end(), message.begin(), message.end());
      return out;
    };
    const auto first = shifted(to_bytes(numbers));
    CHECK(from_bytes<std::vector<double>>(ByteView(first).subspan(shift)) == numbers);
    const auto second = shifted(to_bytes(points));
    CHECK(from_bytes<std::vector<Point>>(ByteView(second).subspan(shift)) == points);
  }
}

TEST_CASE("arrays of many MiB come back as they were") {
  std::vector<std::uint32_t> numbers(3'000'000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint32_t>(i * 2654435761U);
  const bool same = from_bytes<std::vector<std::uint32_t>>(to_bytes(numbers)) == numbers;
  CHECK(same);
}

TEST_CASE("a bool that is neither 0 nor 1 is refused") {
  CHECK_THROWS_AS(unpacked<bool>("02"), WireError);
  CHECK_THROWS_AS(unpacked<std::vector<bool>>("c70d01 62010100 0100000000000000 02"), WireError);
  CHECK_THROWS_AS((unpacked<std::array<bool, 1>>("c70d01 62010100 0100000000000000 02")), WireError);
  std::vector<std::byte> message = to_bytes(std::vector<Flagged>{{1, true}});
  message[message.size() - 4] = std::byte{2};
  CHECK_THROWS_AS(from_bytes<std::vector<Flagged>>(message), WireError);
}

TEST_CASE("every cut of a message is an error") {
  check_truncation(Person{"Ada", 36, {"Charles"}, {{"maths", 1.0}}, Point{1, 2}, {7, Color::blue}});
  check_truncation(Arrays{{1, 2, 3}, {"a", "b"}, {{1, 2}, {3, 4}}, {{1, 2}, {3, 4}}});
  check_truncation(std::vector<Point>(7));
  check_truncation(std::vector<double>(20));
  check_truncation(std::string(300, 'x'));
  check_truncation(std::vector<std::byte>(300));
  check_truncation(std::vector<std::string>(20));
  check_truncation(std::map<int, int>{{1000, 100'000}, {-1000, -100'000}});
  check_truncation(1.5L);
}

TEST_CASE("bytes after the value are an error") { CHECK_THROWS_AS(unpacked<int>("0102"), WireError); }

Node chain(int nodes) {
  Node node{0, {}, nullptr};
  for (int i = 1; i < nodes; ++i) node = Node{i, {}, std::make_unique<Node>(std::move(node))};
  return node;
}

struct Json;
using Object = std::map<std::string, Json>;
using List = std::vector<Json>;
struct Json {
  std::variant<std::nullptr_t, double, std::string, List, Object> value;
};

TEST_CASE("lists and trees of a thousand levels come back as they were") {
  const Node list = from_bytes<Node>(to_bytes(chain(2000)));
  int nodes = 0;
  for (const Node* at = &list; at != nullptr; at = at->next.get()) ++nodes;
  CHECK(nodes == 2000);
  Node tree{0, {}, nullptr};
  for (int i = 0; i < 2000; ++i) {
    Node up{i, {}, nullptr};
    up.children.push_back(std::move(tree));
    tree = std::move(up);
  }
  CHECK(from_bytes<Node>(to_bytes(tree)).value == 1999);
  Json json{1.5};
  for (int i = 0; i < 500; ++i) json = Json{Object{{"a", Json{List{std::move(json)}}}}};
  CHECK(from_bytes<Json>(to_bytes(json)).value.index() == 4);
}

TEST_CASE("a value nested deeper than the limit is refused, on both sides, with limit and remedy") {
  std::string bomb;
  for (int i = 0; i < 100'000; ++i) bomb += "930190";  // {value, no children, next ...
  CHECK_THROWS_WITH_AS(unpacked<Node>(bomb), doctest::Contains("10000 levels, the limit"), WireError);
  std::string children;
  for (int i = 0; i < 100'000; ++i) children += "930191";  // {value, [{value, [...
  CHECK_THROWS_AS(unpacked<Node>(children), WireError);
  CHECK_THROWS_WITH_AS(to_bytes(chain(6000)), doctest::Contains("MANYHANDS_MAX_DEPTH"), WireError);
  const auto message = to_bytes(chain(20));
  CHECK(from_bytes<Node>(message).value == 19);
  Reader shallow(message, {}, {.max_depth = 10});
  CHECK_THROWS_AS(unpack<Node>(shallow), WireError);
}

struct WideNode {  // whose levels may take much of the stack
  std::optional<std::array<double, 4096>> numbers;
  std::unique_ptr<WideNode> next;
};

TEST_CASE("a message never makes the stack overflow, however little there is of it") {
  std::string list;
  for (int i = 0; i < 20'000; ++i) list += "930190";  // {value, no children, next ...
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "92c0";  // {no numbers, next ...
  std::string list_error;
  std::string wide_error;
  const auto body = [&] {
    const Limits deep{.max_depth = 1'000'000};
    const auto list_bytes = from_hex(list);
    const auto wide_bytes = from_hex(wide);
    Reader list_reader(list_bytes, {}, deep);
    Reader wide_reader(wide_bytes, {}, deep);
    try {
      static_cast<void>(unpack<Node>(list_reader));
    } catch (const WireError& e) {
      list_error = e.what();
    }
    try {
      static_cast<void>(unpack<WideNode>(wide_reader));
    } catch (const WireError& e) {
      wide_error = e.what();
    }
  };
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, std::size_t{2} << 20);
  pthread_t thread{};
  auto* const run = +[](void* b) -> void* {
    (*static_cast<const decltype(body)*>(b))();
    return nullptr;
  };
  REQUIRE(::pthread_create(&thread, &attributes, run, const_cast<void*>(static_cast<const void*>(&body))) ==
          0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attributes);
  CHECK(list_error.find("this thread's stack has no room for more") != std::string::npos);
  CHECK_FALSE(wide_error.empty());  // that, or the end of the message, if the compiler needs little stack
}

TEST_CASE("huge announced lengths are refused before memory is taken") {
  CHECK_THROWS_AS(unpacked<std::vector<std::string>>("ddffffffff a0"), WireError);
  CHECK_THROWS_AS(unpacked<std::vector<double>>("ddffffffff 00"), WireError);
  CHECK_THROWS_AS(unpacked<std::vector<std::monostate>>("ddffffffff c0"), WireError);
  CHECK_THROWS_AS((unpacked<std::map<int, int>>("dfffffffff 00")), WireError);
  CHECK_THROWS_AS(unpacked<std::string>("dbffffffff 00"), WireError);
  CHECK_THROWS_AS(unpacked<std::vector<double>>("c70c01 66080100 00000000000000ff"), WireError);
  CHECK_THROWS_AS(unpacked<std::vector<double>>("c70c01 66080100 0000000000000020"),
                  WireError);  // * 8 wraps to 0
}

TEST_CASE("the memory limit counts what elements take, not what they weigh on the wire") {
  using Wide = std::optional<std::array<double, 512>>;  // one byte of nil, 4 KiB of memory
  const std::vector<std::byte> message = to_bytes(std::vector<Wide>(1000));
  CHECK(message.size() == 1003);
  CHECK(from_bytes<std::vector<Wide>>(message).size() == 1000);
  Reader reader(message, {}, {.max_bytes = 1'000'000});
  CHECK_THROWS_AS(unpack<std::vector<Wide>>(reader), WireError);
}

TEST_CASE("the same key twice is an error where the container holds it once") {
  CHECK_THROWS_AS((unpacked<std::map<int, int>>("8201020103")), WireError);
  CHECK_THROWS_AS((unpacked<std::unordered_map<int, int>>("8201020103")), WireError);
  CHECK_THROWS_AS(unpacked<std::set<int>>("920101"), WireError);
  CHECK(unpacked<std::multimap<int, int>>("8201020103").size() == 2);
  CHECK(unpacked<std::multiset<int>>("920101").size() == 2);
}

TEST_CASE("the index of a variant must name an alternative") {
  using Choice = std::variant<int, std::string>;
  CHECK(unpacked<Choice>("9201a161") == Choice("a"));
  CHECK_THROWS_AS(unpacked<Choice>("920200"), WireError);
  CHECK_THROWS_AS(unpacked<Choice>("92ff00"), WireError);
  CHECK_THROWS_AS(unpacked<Choice>("9101"), WireError);
}

TEST_CASE("a struct with fewer or more fields is refused") {
  CHECK_THROWS_AS(unpacked<Point>("9101"), WireError);
  CHECK_THROWS_AS(unpacked<Point>("93010203"), WireError);
}

TEST_CASE("large buffers stay out of band, in order, and are not copied when packed") {
  const std::tuple<std::vector<double>, std::string, std::vector<Point>, std::vector<std::byte>> value{
      std::vector<double>(100, 1.5), std::string(1000, 's'), std::vector<Point>(100, Point{1, 2}),
      std::vector<std::byte>(500, std::byte{9})};
  Writer writer(256);
  pack(writer, value);
  REQUIRE(writer.buffers().size() == 4);
  CHECK(writer.bytes().size() < 200);
  CHECK(writer.buffers()[0].data() == reinterpret_cast<const std::byte*>(std::get<0>(value).data()));
  Reader reader(writer.bytes(), writer.buffers());
  CHECK(unpack<std::decay_t<decltype(value)>>(reader) == value);
  Reader without(writer.bytes());
  CHECK_THROWS_AS(unpack<std::decay_t<decltype(value)>>(without), WireError);
  std::vector<ByteView> swapped(writer.buffers().rbegin(), writer.buffers().rend());
  Reader confused(writer.bytes(), swapped);
  CHECK_THROWS_AS(unpack<std::decay_t<decltype(value)>>(confused), WireError);
}

TEST_CASE("a message of several values is read in order") {
  Writer writer;
  pack(writer, 1);
  pack(writer, std::string("two"));
  Reader reader(writer.bytes());
  CHECK(unpack<int>(reader) == 1);
  CHECK(unpack<std::string>(reader) == "two");
  CHECK(reader.at_end());
}

}  // namespace
}  // namespace manyhands::wire
