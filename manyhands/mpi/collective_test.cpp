#include "manyhands/mpi/collective.hpp"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"

namespace {

// What this process opens below the folder of the test is counted: open() of the C library, replaced for this
// program.
std::atomic<int> opens{0};
std::string watched;

int count_and_open(const char* path, int flags, mode_t mode) {
  if (!watched.empty() && std::string_view(path).starts_with(watched)) ++opens;
  using Open = int (*)(const char*, int, ...);
  static const auto real = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, "open"));
  return real(path, flags, mode);
}

}  // namespace

extern "C" int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  return count_and_open(path, flags, mode);
}

namespace manyhands::mpi {
namespace {

namespace fs = std::filesystem;

// A folder that rank 0 makes and removes; its name is known to all.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/manyhands-collective-XXXXXX";
    if (world().rank() == 0) REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = world().bcast(name);
    watched = path_;
    opens = 0;
  }
  ~Folder() {
    watched.clear();
    world().barrier();
    if (world().rank() == 0) fs::remove_all(path_);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  // By rank 0.
  void write(const std::string& name, const std::string& text) const {
    if (world().rank() == 0) {
      fs::create_directories(fs::path(*this / name).parent_path());
      std::ofstream(*this / name, std::ios::binary) << text;
    }
    world().barrier();
  }
  // By rank 0, with the C compiler; "" if there is none.
  void compile(const std::string& name, const std::string& code, const std::string& options = "") const {
    int status = 0;
    if (world().rank() == 0) {
      std::ofstream(*this / (name + ".c")) << code;
      const std::string soname = fs::path(name).filename();
      const std::string command = "cc -shared -fPIC -o '" + *this / name + "' '" + *this / (name + ".c") +
                                  "' -L'" + path_ + "' -Wl,-soname," + soname + " " + options;
      status = std::system(command.c_str());
    }
    REQUIRE(world().bcast(status) == 0);
  }

 private:
  std::string path_;
};

// How many ranks have opened something below the folder.
int ranks_that_opened() { return world().allreduce(opens.load() > 0 ? 1 : 0, std::plus{}); }

// The message of the error that `call` throws; the same on all ranks, or the test fails.
template <class Call>
std::string message_of(Errc code, Call call) {
  std::string message = "nothing was thrown";
  try {
    call();
  } catch (const Error& error) {
    message = error.what();
    CHECK(error.code() == code);
  }
  CHECK(message == world().bcast(message));
  return message;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("all ranks read a file that one rank opens") {
  const Folder folder;
  folder.write("table.dat", "one two three");
  opens = 0;
  const auto table = collective::read(world(), folder / "table.dat");
  CHECK(table.text() == "one two three");
  CHECK(table.bytes().size() == 13);
  CHECK(table.path() == folder / "table.dat");
  CHECK(ranks_that_opened() == 1);
  CHECK((world().rank() == 0) == (opens.load() > 0));
}

TEST_CASE("a file of several pieces arrives whole, in memory or by way of a file") {
  const Folder folder;
  std::string text(9'500'001, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  folder.write("large", text);
  for (const auto sharing : {collective::Sharing::automatic, collective::Sharing::file}) {
    const auto large = collective::read(world(), folder / "large", {.sharing = sharing});
    CHECK((large.text() == text));
  }
}

TEST_CASE("an empty file and one of /proc are read") {
  const Folder folder;
  folder.write("empty", "");
  CHECK(collective::read(world(), folder / "empty").text().empty());
  CHECK(has(std::string(collective::read(world(), "/proc/version").text()), "Linux"));
}

TEST_CASE("contents outlive their file, and can be moved") {
  const Folder folder;
  folder.write("a", "first");
  folder.write("b", "second");
  auto contents = collective::read(world(), folder / "a");
  auto other = collective::read(world(), folder / "b");
  contents = std::move(other);
  world().barrier();
  if (world().rank() == 0) fs::remove(folder / "b");
  CHECK(contents.text() == "second");
}

TEST_CASE("a subset of the ranks reads on its own") {
  const Folder folder;
  folder.write("a", "text");
  const auto half = world().split(world().rank() % 2);
  CHECK(collective::read(half, folder / "a").text() == "text");
}

TEST_CASE("what cannot be read is the same error on every rank") {
  const Folder folder;
  folder.write("secret", "x");
  CHECK(
      has(message_of(Errc::no_such_file, [&] { collective::read(world(), folder / "nothing"); }), "rank 0"));
  CHECK(has(message_of(Errc::file, [&] { collective::read(world(), folder / "."); }), "EISDIR"));
  CHECK(has(message_of(Errc::file, [] { collective::read(world(), "/dev/null"); }), "no regular file"));
  CHECK(has(message_of(Errc::no_such_file, [&] { collective::read(world(), folder / "secret/x"); }),
            "ENOTDIR"));
  if (::geteuid() != 0) {
    if (world().rank() == 0) fs::permissions(folder / "secret", fs::perms::none);
    world().barrier();
    CHECK(has(message_of(Errc::access, [&] { collective::read(world(), folder / "secret"); }), "EACCES"));
  }
  CHECK(collective::read(world(), folder / "secret").size() <= 1);  // and the next call works
}

TEST_CASE("a file larger than the node's memory is refused with the numbers, before any of it is read") {
  const Folder folder;
  folder.write("huge.dat", "x");
  if (world().rank() == 0) fs::resize_file(folder / "huge.dat", std::uintmax_t{4} << 40);  // of holes
  world().barrier();
  CHECK(has(
      message_of(Errc::no_space, [&] { static_cast<void>(collective::read(world(), folder / "huge.dat")); }),
      "a copy of it needs 4194304 MiB of memory, but only"));
}

TEST_CASE("a library is loaded with what it needs, and one rank looks for it") {
  const Folder folder;
  folder.compile("libhalf.so", "double half(double x) { return x / 2; }");
  folder.compile("libplugin.so",
                 "double half(double); int counter = 7; double f(double x) { return half(x) + 1; }",
                 "-lhalf -Wl,-rpath,'$ORIGIN'");
  world().barrier();
  opens = 0;
  {
    const auto plugin = collective::dlopen(world(), folder / "libplugin.so");
    CHECK(plugin.symbol<double(double)>("f")(5) == 3.5);
    CHECK(*plugin.symbol<int>("counter") == 7);
    CHECK(plugin.path() == folder / "libplugin.so");
    CHECK(plugin.loaded() == std::vector<std::string>{folder / "libhalf.so", folder / "libplugin.so"});
    CHECK(ranks_that_opened() == 1);
    std::ifstream maps("/proc/self/maps");
    const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
    CHECK_FALSE(has(mapped, folder / ""));
    CHECK_THROWS_WITH_AS(plugin.symbol<void()>("nothing"), doctest::Contains("has no symbol 'nothing'"),
                         Error);

    const auto again = collective::dlopen(world(), folder / "libplugin.so");  // is there already
    CHECK(again.loaded().empty());
    CHECK((again.symbol<double(double)>("f") == plugin.symbol<double(double)>("f")));
  }
  CHECK(::dlopen("libplugin.so", RTLD_LAZY | RTLD_NOLOAD) == nullptr);  // unloaded
}

TEST_CASE("a library by way of a file works as well") {
  const Folder folder;
  folder.compile("libone.so", "int one(void) { return 1; }");
  const auto library =
      collective::dlopen(world(), folder / "libone.so", {.sharing = collective::Sharing::file});
  CHECK(library.symbol<int()>("one")() == 1);
}

TEST_CASE("the system's libraries are left to each rank's loader") {
  const auto math = collective::dlopen(world(), "libm.so.6");
  CHECK(math.symbol<double(double)>("cos")(0.0) == 1.0);
  CHECK(math.loaded().empty());
  CHECK(has(message_of(Errc::no_such_file, [] { collective::dlopen(world(), "libnothing-at-all.so"); }),
            "libnothing-at-all.so"));
}

TEST_CASE("a library that cannot be loaded is the same error on every rank") {
  const Folder folder;
  folder.compile("libgone.so", "int gone(void) { return 1; }");
  folder.compile("libneedy.so", "int gone(void); int f(void) { return gone(); }",
                 "-lgone -Wl,-rpath,'$ORIGIN'");
  folder.compile("libopen.so", "int missing(void); int f(void) { return missing(); }");
  folder.write("text.so", "this is no library");
  if (world().rank() == 0) fs::remove(folder / "libgone.so");
  world().barrier();
  const auto load = [&](const std::string& name) {
    return [&folder, name] { static_cast<void>(collective::dlopen(world(), folder / name)); };
  };
  CHECK(has(message_of(Errc::no_such_file, load("libneedy.so")), "libgone.so"));
  CHECK(has(message_of(Errc::other, load("libopen.so")), "undefined symbol: missing"));
  CHECK(has(message_of(Errc::file, load("text.so")), "no ELF file"));
  CHECK(has(message_of(Errc::no_such_file, load("libnot.so")), "libnot.so"));
}

TEST_CASE("files are distributed beforehand by patterns") {
  const Folder folder;
  folder.write("data/a.dat", "a");
  folder.write("data/deep/er/b.dat", "b");
  folder.write("data/c.txt", "c");
  folder.compile("libpre.so", "int pre(void) { return 5; }");
  world().barrier();
  opens = 0;
  const auto loaded =
      collective::preload(world(), {folder / "data/**.dat", folder / "*.so", folder / "data/c.txt"});
  REQUIRE(loaded.files.size() == 3);
  CHECK(loaded.file(folder / "data/a.dat")->text() == "a");
  CHECK(loaded.file(folder / "data/deep/er/b.dat")->text() == "b");
  CHECK(loaded.file(folder / "data/c.txt")->text() == "c");
  CHECK(loaded.file("nothing") == nullptr);
  REQUIRE(loaded.library(folder / "libpre.so") != nullptr);
  CHECK(loaded.library(folder / "libpre.so")->symbol<int()>("pre")() == 5);
  CHECK(ranks_that_opened() == 1);
  CHECK(has(message_of(Errc::no_such_file,
                       [&] { static_cast<void>(collective::preload(world(), {folder / "*.none"})); }),
            "*.none"));
}

}  // namespace
}  // namespace manyhands::mpi
