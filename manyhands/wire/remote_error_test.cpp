#include "manyhands/wire/remote_error.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <new>
#include <regex>
#include <string>
#include <system_error>

#include "manyhands/base/stack_trace.hpp"
#include "manyhands/wire/error.hpp"

struct ParseError {  // an own type, no std::exception
  int line;
  std::string text;
};

struct FormatError : std::runtime_error {  // like most exceptions of most programs
  using std::runtime_error::runtime_error;
};

struct Unpackable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct NotFound : std::runtime_error {
  explicit NotFound(const std::string& file) : std::runtime_error("cannot find " + file) {}
};

struct Coded : std::runtime_error {
  explicit Coded(const std::string& what, int c = 0) : std::runtime_error(what), code(c) {}
  int code;
};

class Decorated : public std::exception {
 public:
  explicit Decorated(const std::string& file) : text_("cannot find " + file) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

struct Picky : std::runtime_error {  // cannot be made of what it says
  Picky() : std::runtime_error("only once") {}
  explicit Picky(const std::string&) : std::runtime_error("never") { throw 42; }
};

struct Thrower {  // its Codec throws what is no std::exception
  int number = 0;
};

template <>
struct manyhands::wire::Codec<Thrower> {
  static void pack(Writer&, const Thrower&) { throw 42; }
  static Thrower unpack(Reader&) { return {}; }
};

template <>
struct manyhands::wire::Codec<Unpackable> {
  static void pack(Writer&, const Unpackable&) { throw std::runtime_error("no room in the suitcase"); }
  static Unpackable unpack(Reader&) { return Unpackable("never"); }
};

namespace manyhands::wire {
namespace {

const bool known = register_exception<ParseError>() && register_exception<FormatError>() &&
                   register_exception<Unpackable>() && register_exception<NotFound>() &&
                   register_exception<Coded, &Coded::code>() && register_exception<Decorated>() &&
                   register_exception<Picky>() && register_exception<Thrower>();
struct Failure {  // same_name_test.cpp has another
  double x = 0;
  int line = 0;
};
const bool failures_known = register_exception<Failure>();
const Place place{.task = 3, .attempt = 1, .worker = 2, .pid = 77, .host = {}};

// What arrives when `thrower` throws in a task.
template <class Thrower>
std::exception_ptr travel(Thrower thrower) {
  try {
    thrower();
    return nullptr;
  } catch (...) {
    const auto bytes = to_bytes(record_of(std::current_exception()));
    return to_exception(from_bytes<ErrorRecord>(bytes), place);
  }
}

TEST_CASE("a std exception arrives as itself with the remote part nested") {
  try {
    std::rethrow_exception(travel([] { throw std::out_of_range("index 9"); }));
  } catch (const std::out_of_range& e) {
    CHECK(std::string(e.what()) == "index 9");
    const RemoteError* remote = remote_error(e);
    REQUIRE(remote != nullptr);
    CHECK(std::string(remote->what()) == "task 3 in worker 2 (pid 77) threw std::out_of_range: index 9");
    CHECK(remote->place().worker == 2);
  }
}

TEST_CASE("bad_alloc, system_error and filesystem_error keep their state") {
  CHECK_THROWS_AS(std::rethrow_exception(travel([] { throw std::bad_alloc(); })), std::bad_alloc);
  try {
    std::rethrow_exception(
        travel([] { throw std::system_error(ENOSPC, std::generic_category(), "write x"); }));
  } catch (const std::system_error& e) {
    CHECK(e.code().value() == ENOSPC);
    CHECK(std::string(e.what()) == "write x: No space left on device");
  }
  try {
    std::rethrow_exception(travel([] { static_cast<void>(std::filesystem::file_size("/no/such")); }));
  } catch (const std::filesystem::filesystem_error& e) {
    CHECK(e.path1() == "/no/such");
    CHECK(e.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(e.what()) ==
          "filesystem error: cannot get file size: No such file or directory [/no/such]");
  }
}

TEST_CASE("errors of streams, regular expressions and futures keep their code") {
  try {
    std::rethrow_exception(travel([] {
      std::ifstream file("/no/such");
      file.exceptions(std::ios::failbit);
    }));
  } catch (const std::ios_base::failure& e) {
    CHECK(e.code() == std::io_errc::stream);
    CHECK(std::string(e.what()) == "basic_ios::clear: iostream error");
  }
  try {
    std::rethrow_exception(travel([] { throw std::regex_error(std::regex_constants::error_paren); }));
  } catch (const std::regex_error& e) {
    CHECK(e.code() == std::regex_constants::error_paren);
  }
  try {
    std::rethrow_exception(travel([] {
      std::promise<int> promise;
      static_cast<void>(promise.get_future());
      static_cast<void>(promise.get_future());
    }));
  } catch (const std::future_error& e) {
    CHECK(e.code() == std::future_errc::future_already_retrieved);
  }
}

TEST_CASE("an exception with others nested inside arrives as itself and names them") {
  const auto parse = [] {
    try {
      try {
        throw std::out_of_range("column 9");
      } catch (...) {
        std::throw_with_nested(ParseError{7, "unexpected ]"});
      }
    } catch (...) {
      std::throw_with_nested(std::invalid_argument("bad scene"));
    }
  };
  try {
    std::rethrow_exception(travel(parse));
  } catch (const std::invalid_argument& e) {
    CHECK(std::string(e.what()) == "bad scene");
    const RemoteError* remote = remote_error(e);
    REQUIRE(remote != nullptr);
    CHECK(
        std::string(remote->what()) ==
        "task 3 in worker 2 (pid 77) threw std::invalid_argument: bad scene; caused by ParseError; caused by "
        "std::out_of_range: column 9");
  }
}

TEST_CASE("an error that has travelled once travels on as itself") {
  const auto inner = travel([] { throw std::out_of_range("index 9"); });
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([&] { std::rethrow_exception(inner); })), "index 9",
                       std::out_of_range);
  struct Local {};
  const auto unknown = travel([] { throw Local(); });
  try {
    std::rethrow_exception(travel([&] { std::rethrow_exception(unknown); }));
  } catch (const RemoteError& e) {
    CHECK(e.type().find("Local") != std::string::npos);  // what the innermost task threw, and where
    CHECK(e.place().pid == 77);
  }
}

TEST_CASE("our own errors arrive as themselves") {
  CHECK_THROWS_AS(std::rethrow_exception(travel([] { throw WireError("w"); })), WireError);
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw SystemError("open x", ENOENT); })),
                       "open x: No such file or directory (ENOENT)", SystemError);
}

TEST_CASE("a registered own type arrives as itself, though it is no std::exception") {
  try {
    std::rethrow_exception(travel([] { throw ParseError{7, "unexpected ]"}; }));
  } catch (const ParseError& e) {
    CHECK(e.line == 7);
    CHECK(e.text == "unexpected ]");
  }
}

TEST_CASE("a registered exception that is made from its message arrives as itself") {
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw FormatError("no header"); })), "no header",
                       FormatError);
}

TEST_CASE("a registered exception whose constructor adds to its message keeps the message") {
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw NotFound("x.txt"); })), "cannot find x.txt",
                       NotFound);
}

TEST_CASE("named members of a registered exception travel with its message") {
  try {
    std::rethrow_exception(travel([] { throw Coded("coded", 7); }));
  } catch (const Coded& e) {
    CHECK(std::string(e.what()) == "coded");
    CHECK(e.code == 7);
  }
}

TEST_CASE("an exception that would say something else when made again arrives as a RemoteError") {
  try {
    std::rethrow_exception(travel([] { throw Decorated("x.txt"); }));
  } catch (const RemoteError& e) {
    CHECK(e.message().starts_with("cannot find x.txt (the exception itself could not be packed"));
  }
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw Picky(); })), doctest::Contains("only once"),
                       RemoteError);
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw Thrower(); })), doctest::Contains("Thrower"),
                       RemoteError);
}

TEST_CASE("a system_error without a text of its own does not get one") {
  const std::error_code code(ENOENT, std::generic_category());
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([&] { throw std::system_error(code); })),
                       "No such file or directory", std::system_error);
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([&] { throw std::system_error(code, "open: x"); })),
                       "open: x: No such file or directory", std::system_error);
}

TEST_CASE("exceptions with members beside their message need these named") {
  CHECK(OnlyMessage<FormatError>);
  CHECK(OnlyMessage<Decorated>);
  CHECK_FALSE(OnlyMessage<Coded>);
  CHECK_FALSE(OnlyMessage<std::system_error>);
}

TEST_CASE("of two exceptions of the same name in two files each arrives as itself") {
  REQUIRE(failures_known);
  try {
    std::rethrow_exception(travel([] { throw Failure{.x = 1, .line = 7}; }));
  } catch (const Failure& failure) {
    CHECK(failure.line == 7);
  }
}

TEST_CASE("an unknown type arrives as a RemoteError that names it") {
  struct Local {};
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw Local(); })), doctest::Contains("Local"),
                       RemoteError);
  CHECK_THROWS_WITH_AS(std::rethrow_exception(travel([] { throw 42; })),
                       "task 3 in worker 2 (pid 77) threw int: 42", RemoteError);
}

TEST_CASE("an exception that cannot be packed arrives described, with the reason") {
  CHECK_THROWS_WITH_AS(
      std::rethrow_exception(travel([] { throw Unpackable("too big"); })),
      doctest::Contains("too big (the exception itself could not be packed: no room in the suitcase)"),
      RemoteError);
}

TEST_CASE("a record with a damaged payload still gives a RemoteError") {
  ErrorRecord record{.type = "ParseError",
                     .message = "",
                     .key = typeid(ParseError).name(),
                     .payload = {std::byte{0xc1}},
                     .stack = {},
                     .causes = {}};
  CHECK_THROWS_AS(std::rethrow_exception(to_exception(record, place)), RemoteError);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
[[gnu::noinline]] void deep_in_the_task() { throw std::runtime_error("deep"); }

TEST_CASE("the stack of the throw travels and is named at the receiver") {
  const ThrowTracer tracer;
  try {
    deep_in_the_task();
  } catch (...) {
    const auto record = record_of(std::current_exception(), ThrowTracer::last_throw());
    CHECK(RemoteError(record, place).stack().find("deep_in_the_task") != std::string::npos);
  }
}
#endif

}  // namespace
}  // namespace manyhands::wire
