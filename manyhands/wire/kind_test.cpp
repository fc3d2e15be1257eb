#include "manyhands/wire/kind.hpp"

#include <doctest/doctest.h>

#include <any>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>

namespace manyhands::wire {
namespace {

// Structs that travel.
struct Empty {};
struct Point {
  int x;
  double y;
};
struct Arrays {
  float position[3];
  char name[16];
  Point points[2];
  int matrix[2][3];
  bool flag;
};
struct Node {
  int value;
  std::vector<Node> children;
  std::unique_ptr<Node> next;
};
struct Everything {
  std::optional<int> a;
  std::vector<std::string> b;
  std::variant<int, std::string> c;
  std::map<int, std::string> d;
  std::tuple<int, float> e;
  std::pair<int, int> f;
  std::filesystem::path g;
  std::chrono::seconds h;
  std::array<int, 3> i;
  std::unique_ptr<int> j;
};
struct OneOptional {
  std::optional<int> a;
};
struct Long {
  int f[1000];
  int last;
};
enum class Color { red };

// Structs that do not.
struct Reference {
  int& r;
};
struct ConstReference {
  const int& r;
};
struct Derived : Point {
  int z;
};
struct DerivedOnly : Point {};
struct HasMutex {
  std::mutex m;
};
struct HasFunction {
  std::function<void()> f;
};
struct HasPointer {
  int* p;
};
struct HasAny {
  std::any a;
  int b;
};
struct NoDefault {
  explicit NoDefault(int);
};
struct HasNoDefault {
  int a;
  NoDefault b;
};
union Union {
  int a;
  float b;
};
struct Abstract {
  virtual ~Abstract() = default;
  virtual void f() = 0;
};

}  // namespace

template <>
struct Codec<NoDefault> {
  static void pack(Writer&, const NoDefault&);
  static NoDefault unpack(Reader&);
};

namespace {

TEST_CASE("fields are counted, C arrays as one") {
  CHECK(fields::count_of<Empty>.fields == 0);
  CHECK(fields::count_of<Point>.fields == 2);
  CHECK(fields::count_of<Arrays>.fields == 5);
  CHECK(fields::count_of<Arrays>.has_arrays);
  CHECK(fields::count_of<Node>.fields == 3);
  CHECK(fields::count_of<Everything>.fields == 10);
  CHECK_FALSE(fields::count_of<Everything>.has_arrays);
  CHECK(fields::count_of<OneOptional>.fields == 1);
  CHECK(fields::count_of<HasNoDefault>.fields == 2);
  CHECK(fields::count_of<Long>.fields == 2);
}

TEST_CASE("values travel, alone and in structs and containers") {
  static_assert(Packable<bool> && Packable<char> && Packable<int> && Packable<unsigned long> &&
                Packable<float>);
  static_assert(Packable<double> && Packable<long double> && Packable<Color> && Packable<std::byte>);
  static_assert(Packable<std::string> && Packable<std::filesystem::path> && Packable<std::complex<float>>);
  static_assert(Packable<std::chrono::nanoseconds> && Packable<std::chrono::system_clock::time_point>);
  static_assert(Packable<std::vector<int>> && Packable<std::vector<bool>> &&
                Packable<std::vector<std::byte>>);
  static_assert(Packable<std::array<std::string, 2>> && Packable<std::deque<Point>> &&
                Packable<std::list<Point>>);
  static_assert(Packable<std::set<int>> && Packable<std::unordered_set<int>> && Packable<std::multiset<int>>);
  static_assert(Packable<std::map<int, int>> && Packable<std::unordered_map<int, int>>);
  static_assert(Packable<std::multimap<int, int>> && Packable<std::pair<int, std::string>>);
  static_assert(Packable<std::tuple<>> && Packable<std::nullptr_t> && Packable<std::monostate>);
  static_assert(Packable<std::unique_ptr<int>> && Packable<std::optional<std::optional<int>>>);
  static_assert(Packable<std::variant<std::monostate, Point>> && Packable<const int&>);
  static_assert(Packable<Empty> && Packable<Point> && Packable<Arrays> && Packable<Node> &&
                Packable<Everything>);
  static_assert(Packable<OneOptional> && Packable<Long>);
  static_assert(Packable<NoDefault> && Packable<HasNoDefault> && Packable<std::vector<NoDefault>>);
}

TEST_CASE("what means something in one process only does not travel, nor what contains it") {
  static_assert(!Packable<void> && !Packable<int*> && !Packable<const char*> && !Packable<void()> &&
                !Packable<int[3]>);
  static_assert(!Packable<std::mutex> && !Packable<std::thread> && !Packable<std::ofstream> &&
                !Packable<std::any>);
  static_assert(!Packable<std::function<int()>> && !Packable<decltype([] {})> &&
                !Packable<std::shared_ptr<int>>);
  static_assert(!Packable<std::string_view> && !Packable<std::span<int>> &&
                !Packable<std::reference_wrapper<int>>);
  static_assert(!Packable<std::vector<int*>> && !Packable<std::optional<std::mutex>> &&
                !Packable<std::tuple<int&>>);
  static_assert(!Packable<std::map<int, int*>> && !Packable<std::variant<int, int*>> &&
                !Packable<std::array<int*, 2>>);
  static_assert(!Packable<std::unique_ptr<Abstract>> && !Packable<std::unique_ptr<int[]>> &&
                !Packable<Abstract>);
  static_assert(!Packable<Reference> && !Packable<ConstReference> && !Packable<Derived> &&
                !Packable<DerivedOnly>);
  static_assert(!Packable<HasMutex> && !Packable<HasFunction> && !Packable<HasPointer> && !Packable<HasAny>);
  static_assert(!Packable<std::vector<HasPointer>> && !Packable<Union>);
  int captured = 0;
  const auto by_reference = [&captured] { return captured; };
  const auto by_value = [captured] { return captured; };
  static_assert(!Packable<decltype(by_reference)> && !Packable<decltype(by_value)>);
}

// Known for the shape of a base.
struct Names : std::vector<std::string> {
  using std::vector<std::string>::vector;
};
struct Table : std::vector<double> {
  std::size_t columns;
};
class Grid : public std::vector<double> {
 public:
  Grid() = default;

 private:
  [[maybe_unused]] int columns_ = 0;
};
struct Titled : std::map<int, int> {
  std::string title;
};
struct Text : std::string {
  int language;
};
struct Corner : std::array<double, 3> {
  char name;
};
struct Maybe : std::optional<int> {
  int why;
};
struct Lasting : std::chrono::seconds {
  int more;
};
struct File : std::filesystem::path {
  int size;
};
// Of nobody's library.
struct Own {
  using value_type = int;
  std::vector<int> held;
  auto begin() const { return held.begin(); }
  auto end() const { return held.end(); }
  std::size_t size() const { return held.size(); }
  void clear() { held.clear(); }
  void push_back(int n) { held.push_back(n); }
};
struct MoreThanOwn : Own {
  int more;
};
struct Taught : std::vector<int> {
  int more;
};

}  // namespace

template <>
struct Codec<Taught> {
  static void pack(Writer&, const Taught&);
  static Taught unpack(Reader&);
};

namespace {

TEST_CASE("a class with members beside a container's does not travel as the container") {
  static_assert(Packable<Names> && Packable<Own> && Packable<Taught>);
  static_assert(!Packable<Table> && !Packable<Grid> && !Packable<Titled> && !Packable<Text> &&
                !Packable<Corner>);
  static_assert(!Packable<Maybe> && !Packable<Lasting> && !Packable<File> && !Packable<MoreThanOwn>);
  static_assert(!Packable<std::vector<Table>> && detail::loses_members<Table> &&
                !detail::loses_members<Taught>);
  static_assert(detail::loses_members<Corner> && detail::loses_members<MoreThanOwn>);
}

TEST_CASE("a plain type is its bytes") {
  static_assert(Plain<int> && Plain<double> && Plain<bool> && Plain<Color> && Plain<std::complex<double>>);
  static_assert(Plain<Empty> && Plain<Point> && Plain<Arrays> && Plain<Long> && Plain<std::array<Point, 3>>);
  static_assert(!Plain<std::string> && !Plain<Everything> && !Plain<HasPointer> && !Plain<int*> &&
                !Plain<Node>);
  static_assert(!Plain<NoDefault> && !Plain<Reference> && !Plain<Derived> && !Plain<Union> &&
                !Plain<std::vector<int>>);
}

}  // namespace
}  // namespace manyhands::wire
