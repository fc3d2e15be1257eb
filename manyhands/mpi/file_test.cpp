#include "manyhands/mpi/file.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <optional>

#include "manyhands/mpi/large.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::code_of;
using test::Particle;
using test::value_of;

template <class T>
std::vector<T> values(int rank, std::size_t count) {
  std::vector<T> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = value_of<T>((rank * 31 + static_cast<int>(i)) % 100);
  return all;
}

void barrier(const Comm& comm) { MPI_Barrier(comm.native()); }

// A folder that all ranks share, removed by the last.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/manyhands-file-XXXXXX";
    if (world().rank() == 0) CHECK(::mkdtemp(name) != nullptr);
    MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    barrier(world());
    if (world().rank() == 0) std::system(("rm -r " + path_).c_str()) == 0 ? void() : std::abort();
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

constexpr Mode create = Mode::create | Mode::read | Mode::write;

// Blocks of all ranks, written and read in every way.
template <class T>
void goes_to_disk(const Comm& comm, const std::string& path, std::size_t count) {
  const int me = comm.rank();
  const auto n = static_cast<MPI_Offset>(count);
  const int next = (me + 1) % comm.size();
  const File f(comm, path, create | Mode::truncate);
  CHECK(f.size() == 0);
  barrier(comm);
  int round = 0;
  const auto block = [&](int rank) { return values<T>(rank + round, count); };
  const auto expect = [&] {
    f.sync();
    barrier(comm);
    f.sync();
    CHECK(f.size() == comm.size() * n * static_cast<MPI_Offset>(sizeof(T)));
    CHECK((f.read_at<std::vector<T>>(next * n, count) == block(next)));
    barrier(comm);
    ++round;
  };
  f.write_at(me * n, block(me));
  expect();
  f.write_at_all(me * n, block(me));
  expect();
  f.seek<T>(me * n);
  f.write(block(me));
  CHECK(f.position<T>() == (me + 1) * n);
  expect();
  f.seek<T>(me * n);
  f.write_all(block(me));
  expect();
  CHECK((f.iwrite_at(me * n, block(me)).get() == block(me)));
  expect();
  f.iwrite_at_all(me * n, block(me)).get();
  expect();
  f.seek<T>(me * n);
  const auto lent = block(me);
  f.iwrite(std::span(lent)).get();
  expect();
  f.seek<T>(me * n);
  f.iwrite_all(block(me)).get();
  expect();
  {
    const auto data = block(me);
    auto split = f.write_at_all_begin(me * n, data);
    split.end();
  }
  expect();
  {
    const auto data = block(me);
    f.seek<T>(me * n);
    auto split = f.write_all_begin(data);
    split.end();
  }
  expect();
  f.seek_shared(0);
  f.write_ordered(block(me));
  CHECK(f.position_shared<T>() == comm.size() * n);
  expect();
  f.seek_shared(0);
  {
    const auto data = block(me);
    f.write_ordered_begin(data).end();
  }
  expect();

  --round;  // what lies there
  std::vector<T> in(count);
  int way = 0;
  const auto came = [&](const Status& status) {
    ++way;
    CAPTURE(way);
    CHECK(status.count<T>() == static_cast<MPI_Count>(count));
    CHECK((in == block(next)));
    std::ranges::fill(in, value_of<T>(99));
    barrier(comm);
  };
  const auto rewind = [&] { f.seek<T>(next * n); };
  came(f.read_at(next * n, in));
  came(f.read_at_all(next * n, std::span(in)));
  rewind();
  came(f.read(in));
  rewind();
  came(f.read_all(in));
  const auto finished = [&](auto request) {
    request.wait();
    return request.status();
  };
  came(finished(f.iread_at(next * n, in)));
  came(finished(f.iread_at_all(next * n, in)));
  rewind();
  came(finished(f.iread(in)));
  rewind();
  came(finished(f.iread_all(in)));
  came(f.read_at_all_begin(next * n, in).end());
  rewind();
  came(f.read_all_begin(in).end());
  CHECK((f.iread_at<std::vector<T>>(next * n, count).get() == block(next)));
  CHECK((f.read_at_all<std::vector<T>>(next * n, count) == block(next)));
  f.seek_shared(0);
  CHECK((f.read_ordered<std::vector<T>>(count) == block(me)));
  f.seek_shared(0);
  std::vector<T> mine(count);
  f.read_ordered_begin(mine).end();
  CHECK((mine == block(me)));
  if (count > 0) {
    const MPI_Offset per_value = std::is_same_v<T, std::array<int, 3>> ? 3 : 1;  // an array is a range
    CHECK((f.read_at<T>(next * n * per_value) == block(next)[0]));
    CHECK((f.iread_at<T>(next * n * per_value).get() == block(next)[0]));
  }
}

TEST_CASE("blocks of all ranks are written and read in every way") {
  const Folder folder;
  for (const std::size_t count : {0U, 1U, 7U, 1000U}) goes_to_disk<int>(world(), folder / "int", count);
  goes_to_disk<double>(world(), folder / "double", 7);
  goes_to_disk<char>(world(), folder / "char", 7);
  goes_to_disk<Particle>(world(), folder / "particle", 7);
  goes_to_disk<std::array<int, 3>>(world(), folder / "array", 7);
  goes_to_disk<std::complex<double>>(world().split(0, {.key = -world().rank()}), folder / "reversed", 7);
  const int half = world().rank() % 2;
  goes_to_disk<double>(world().split(half), folder / ("half" + std::to_string(half)), 7);
}

TEST_CASE("counts above MPI's limit go to disk as derived datatypes") {
  const Folder folder;
  const MPI_Count limit = std::exchange(detail::large_limit, 5);
  goes_to_disk<int>(world(), folder / "large", 13);
  goes_to_disk<Particle>(world(), folder / "large", 13);
  detail::large_limit = limit;
}

TEST_CASE("the shared position gives every rank a place of its own") {
  const Folder folder;
  const Comm& comm = world();
  File f(comm, folder / "log", create);
  for (int i = 0; i < 5; ++i) f.write_shared(comm.rank());
  f.iwrite_shared(comm.rank()).get();
  f.sync();
  barrier(comm);
  f.sync();
  CHECK(f.size() == 6 * comm.size() * static_cast<MPI_Offset>(sizeof(int)));
  const auto all = f.read_at<std::vector<int>>(0, 1000);
  for (int rank = 0; rank < comm.size(); ++rank) CHECK(std::ranges::count(all, rank) == 6);
  f.seek_shared(0);
  std::vector<int> counts(static_cast<std::size_t>(comm.size()), 0);
  for (int i = 0; i < 3; ++i) ++counts[static_cast<std::size_t>(f.read_shared<int>())];
  int one = 0;
  f.iread_shared(one).get();
  ++counts[static_cast<std::size_t>(one)];
  ++counts[static_cast<std::size_t>(f.iread_shared<int>().get())];
  barrier(comm);
  CHECK(f.position_shared<int>() == 5 * comm.size());
  f.close();
  CHECK_FALSE(f);
}

TEST_CASE("reading beyond the end gives what there is") {
  const Folder folder;
  const Comm& comm = world();
  File f(comm, folder / "short", create);
  f.write_at_all(0, std::vector<int>(comm.rank() == 0 ? 10 : 0, 5));
  f.sync();
  barrier(comm);
  f.sync();
  CHECK(f.read_at<std::vector<int>>(7, 100) == std::vector<int>(3, 5));
  CHECK(f.read_at<std::string>(39, 100).size() == 1);
  CHECK(f.read_at<std::vector<int>>(1000, 100).empty());
  CHECK(f.iread_at<std::vector<int>>(8, 100).get() == std::vector<int>(2, 5));
  std::array<int, 4> room{};
  CHECK(f.read_at(8, std::span(room)).count<int>() == 2);
  CHECK(code_of([&] { static_cast<void>(f.read_at<double>(5)); }) == Errc::truncate);
  CHECK(code_of([&] { static_cast<void>(f.iread_at<double>(5).get()); }) == Errc::truncate);
}

TEST_CASE("views show each rank its own part of the file") {
  const Folder folder;
  const Comm& comm = world();
  const int me = comm.rank();
  const int n = comm.size();
  File f(comm, folder / "view", create);
  // Columns dealt out in turn, behind a header of 16 bytes.
  constexpr int rows = 6;
  const auto mine = Datatype::vector<double>(1, 1, n).resized(0, static_cast<MPI_Aint>(sizeof(double)) * n);
  f.set_view<double>(16 + me * static_cast<MPI_Offset>(sizeof(double)), mine);
  CHECK(f.view_displacement() == 16 + me * static_cast<MPI_Offset>(sizeof(double)));
  CHECK(f.view_representation() == "native");
  CHECK(f.byte_offset<double>(2) == 16 + (2 * n + me) * static_cast<MPI_Offset>(sizeof(double)));
  f.write_all(values<double>(me, rows));
  CHECK(f.position<double>() == rows);
  f.write_at_all(2, 1000.0 + me);  // offsets count along the view
  f.sync();
  barrier(comm);
  CHECK(f.read_at<double>(2) == 1000.0 + me);
  f.seek<double>(-1, Whence::current);
  CHECK(f.read<double>() == values<double>(me, rows)[5]);
  CHECK(code_of([&] { static_cast<void>(f.read_at<char>(3)); }) == Errc::arg);
  f.sync();
  barrier(comm);
  f.sync();
  f.reset_view();
  for (int row = 0; row < rows; ++row) {
    for (int rank = 0; rank < n; ++rank) {
      const double wanted =
          row == 2 ? 1000.0 + rank : values<double>(rank, rows)[static_cast<std::size_t>(row)];
      CHECK(f.read_at<double>(2 + row * n + rank) == wanted);
    }
  }
  // A whole row by a Buffer with a datatype of its own: every second element.
  barrier(comm);
  const auto second = Datatype::vector<double>(3, 1, 2);
  std::vector<double> out{1, 0, 2, 0, 3};
  if (me == 0) f.write_at(1, buffer(std::as_const(out).data(), 1, second));
  f.sync();
  barrier(comm);
  f.sync();
  CHECK(f.read_at<std::vector<double>>(3, 3) == std::vector<double>{1, 2, 3});
  std::vector<double> in(5, 9);
  f.read_at(1, buffer(in.data(), 1, second));
  CHECK(in == std::vector<double>{1, 9, 2, 9, 3});
}

TEST_CASE("a block of a matrix is written through a subarray, as all ranks together make it") {
  const Folder folder;
  const Comm& comm = world();
  const int n = comm.size();
  const int full[] = {4, 3 * n};
  const int part[] = {4, 3};
  const int start[] = {0, 3 * comm.rank()};
  File f(comm, folder / "matrix", create);
  const auto box = Datatype::subarray<int>(full, part, start);
  f.set_view<int>(0, box);
  f.write_all(std::vector<int>(12, comm.rank()));
  f.reset_view();
  f.sync();
  barrier(comm);
  f.sync();
  const auto all = f.read_at_all<std::vector<int>>(0, static_cast<std::size_t>(12 * n));
  CHECK(all.size() == static_cast<std::size_t>(12 * n));
  for (int i = 0; i < 12 * n; ++i) CHECK(all[static_cast<std::size_t>(i)] == i % (3 * n) / 3);
}

TEST_CASE("files have sizes, modes, hints and groups") {
  const Folder folder;
  const Comm& comm = world();
  {
    File f(comm, folder / "file", create, Info{{"cb_buffer_size", "65536"}});
    const auto has_size = [&](MPI_Offset bytes) {
      barrier(comm);  // the others may still be at it, and be ahead after it
      CHECK(f.size() == bytes);
      barrier(comm);
    };
    f.set_size(1000);
    has_size(1000);
    f.preallocate(5000);
    has_size(5000);
    f.set_size(10);
    has_size(10);
    f.set_atomicity(true);
    CHECK(f.atomicity());
    f.set_atomicity(false);
    CHECK_FALSE(f.atomicity());
    CHECK(has(f.mode(), Mode::read));
    CHECK(has(f.mode(), Mode::write));
    CHECK(f.group() == comm.group());
    CHECK(f.path() == folder / "file");
    static_cast<void>(f.info().all());
    f.set_info(Info{{"cb_buffer_size", "65536"}});
    f.seek(0, Whence::end);
    CHECK(f.position() == 10);
    File moved = std::move(f);
    CHECK(code_of([&] { static_cast<void>(f.size()); }) == Errc::file);
    moved = File(comm, folder / "other", create);
    CHECK(moved.size() == 0);
  }
  {
    const File f(comm, folder / "file", Mode::write | Mode::append);
    CHECK(f.position() == 10);
    CHECK_FALSE(has(f.mode(), Mode::read));
  }
  {
    const File gone(comm, folder / "gone", create | Mode::delete_on_close);
    gone.write_at_all(0, 1);
  }
  barrier(comm);
  CHECK(::access((folder / "gone").c_str(), F_OK) != 0);
  barrier(comm);
  if (comm.rank() == 0) delete_file(folder / "file");
  barrier(comm);
  CHECK(::access((folder / "file").c_str(), F_OK) != 0);
  MPI_File raw = MPI_FILE_NULL;
  MPI_File_open(comm.native(), (folder / "raw").c_str(), MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL,
                &raw);
  const File adopted = File::adopt(raw);
  adopted.write_at_all(comm.rank(), comm.rank());
  adopted.sync();
  barrier(comm);
  CHECK(adopted.read_at<int>(comm.rank()) == comm.rank());
}

TEST_CASE("errors of files name the file and have the same class on every MPI") {
  const Folder folder;
  const Comm& comm = world();
  CHECK(code_of([&] { File(comm, folder / "missing", Mode::read); }) == Errc::no_such_file);
  CHECK(code_of([&] { File(comm, folder / "no/folder", create); }) == Errc::no_such_file);
  CHECK(code_of([&] { File(comm, folder / "", Mode::write); }) == Errc::bad_file);
  CHECK(code_of([&] { File(comm, "", create); }) == Errc::bad_file);
  CHECK(code_of([&] { File(comm, folder / std::string(300, 'x'), create); }) == Errc::bad_file);
  CHECK(code_of([&] { File(comm, folder / "x", Mode::create); }) == Errc::amode);
  CHECK(code_of([&] { File(comm, folder / "x", Mode::create | Mode::read); }) == Errc::amode);
  CHECK(code_of([&] { File(Comm(), folder / "x", create); }) == Errc::comm);
  CHECK(code_of([&] { static_cast<void>(File::adopt(MPI_FILE_NULL)); }) == Errc::file);
  CHECK(code_of([&] { delete_file(folder / "missing"); }) == Errc::no_such_file);
  CHECK(code_of([&] { delete_file(""); }) == Errc::bad_file);
  {
    const File f(comm, folder / "there", create);
    CHECK(code_of([&] { f.write_at(-1, 1); }) == Errc::arg);
    CHECK(code_of([&] { f.write_at(MPI_Offset{1} << 62, 1); }) == Errc::arg);
    CHECK(code_of([&] { f.set_size(-1); }) == Errc::arg);
    CHECK(code_of([&] { f.seek(-1); }) == Errc::arg);
  }
  CHECK(code_of([&] { File(comm, folder / "there", create | Mode::exclusive); }) == Errc::file_exists);
  try {
    File(comm, folder / "missing", Mode::read);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(folder / "missing") != std::string::npos);
    CHECK(error.operation() == "File");
  }
  {
    const File f(comm, folder / "there", Mode::read);
    const Errc code = code_of([&] { f.write_at(0, 1); });
    CHECK((code == Errc::access || code == Errc::amode || code == Errc::read_only));
  }
  if (::getuid() != 0) {
    if (comm.rank() == 0) ::chmod((folder / "there").c_str(), 0);
    barrier(comm);
    CHECK(code_of([&] { File(comm, folder / "there", Mode::read); }) == Errc::access);
  }
  // A disk that is always full. Outside of the lambda: a file that an exception passes by is not closed.
  const File disk(self(), "/dev/full", Mode::write);
  const Errc full = code_of([&] { disk.write_at(0, std::vector<char>(100'000, 'x')); });
  CHECK((full == Errc::no_space || full == Errc::io));
}

// On disk: `elements` ints from 0 on, written by rank 0.
File numbered(const Comm& comm, const std::string& path, int elements) {
  File f(comm, path, create | Mode::truncate);
  std::vector<int> all(static_cast<std::size_t>(elements));
  std::iota(all.begin(), all.end(), 0);
  if (comm.rank() == 0) f.write_at(0, all);
  f.sync();
  barrier(comm);
  f.sync();
  return f;
}

std::vector<int> from_to(int first, int end) {
  std::vector<int> all;
  for (int i = first; i < end; ++i) all.push_back(i);
  return all;
}

TEST_CASE("ranks that read beyond the end together get what there is, in every way") {
  const Folder folder;
  const Comm& comm = world();
  const int me = comm.rank();
  const int n = comm.size();
  File f = numbered(comm, folder / "short", 10);
  // Rank r reads from 7 + 2r on: rank 0 gets 3, rank 1 one, the others nothing.
  const int first = 7 + 2 * me;
  const auto wanted = from_to(std::min(first, 10), 10);
  CHECK(f.read_at_all<std::vector<int>>(first, 100) == wanted);
  CHECK(f.iread_at_all<std::vector<int>>(first, 100).get() == wanted);
  CHECK(f.iread_at<std::vector<int>>(first, 100).get() == wanted);
  std::vector<int> room(100, -1);
  const auto filled = [&](const Status& status) {
    const auto count = static_cast<std::size_t>(status.count<int>());
    CHECK(std::vector(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(count)) == wanted);
    CHECK(std::count(room.begin() + static_cast<std::ptrdiff_t>(count), room.end(), -1) ==
          static_cast<std::ptrdiff_t>(room.size() - count));
    std::ranges::fill(room, -1);
  };
  filled(f.read_at_all(first, room));
  filled(f.read_at_all_begin(first, room).end());
  f.seek<int>(first);
  filled(f.read_all(room));
  CHECK(f.position<int>() == std::max(first, 10));
  f.seek<int>(first);
  filled(f.read_all_begin(room).end());
  f.seek<int>(first);
  CHECK(f.iread_all<std::vector<int>>(100).get() == wanted);
  auto lent = f.iread_at_all(first, room);
  lent.wait();
  filled(lent.status());
  // One after the other, four each.
  f.seek_shared(0);
  const auto part = from_to(std::min(4 * me, 10), std::min(4 * me + 4, 10));
  CHECK(f.read_ordered<std::vector<int>>(4) == part);
  f.seek_shared(0);
  std::vector<int> four(4, -1);
  CHECK(f.read_ordered_begin(four).end().count<int>() == static_cast<MPI_Count>(part.size()));
  CHECK(std::vector(four.begin(), four.begin() + static_cast<std::ptrdiff_t>(part.size())) == part);
  // Beyond the end altogether.
  CHECK(f.read_at_all<std::vector<int>>(1000, 5).empty());
  CHECK(f.read_at_all_begin(1000, room).end().bytes == 0);
  f.seek_shared<int>(1000);
  CHECK(f.read_ordered<std::vector<int>>(5).empty());
  barrier(comm);
  f.seek_shared<int>(10);
  CHECK(f.read_shared<std::vector<int>>(5).empty());
  CHECK(f.iread_shared<std::vector<int>>(5).get().empty());
  // A value of which a part is there.
  CHECK(code_of([&] { static_cast<void>(f.read_at_all<std::array<int, 4>>(8)); }) == Errc::truncate);
  CHECK(code_of([&] { static_cast<void>(f.iread_at_all<double>(5).get()); }) == Errc::truncate);
  CHECK(f.read_at_all<std::string>(39, 100).size() == 1);
  // Through a datatype that the end cuts.
  const auto second = Datatype::vector<int>(4, 1, 2);
  std::vector<int> spread(8, -1);
  CHECK(f.read_at_all(5, buffer(spread.data(), 1, Datatype::contiguous<int>(2))).bytes == 0);  // 10, 11
  CHECK(f.read_at_all(2, buffer(spread.data(), 1, second)).bytes == 2 * sizeof(int));  // from the 8th int on
  CHECK(spread == std::vector{8, -1, 9, -1, -1, -1, -1, -1});
  for (const int way : {0, 1, 2}) {
    std::ranges::fill(spread, -1);
    const Buffer into = buffer(spread.data(), 1, second);
    if (way == 0) f.iread_at_all(2, into).get();
    if (way == 1) f.read_at_all_begin(2, into).end();
    if (way == 2) f.iread_at(2, into).get();
    CHECK(spread == std::vector{8, -1, 9, -1, -1, -1, -1, -1});
  }
  // Under a view that deals the ints out to the ranks.
  const auto mine = Datatype::vector<int>(1, 1, 1).resized(0, static_cast<MPI_Aint>(sizeof(int)) * n);
  f.set_view<int>(me * static_cast<MPI_Offset>(sizeof(int)), mine);
  std::vector<int> dealt;
  for (int i = me; i < 10; i += n) dealt.push_back(i);
  CHECK(f.read_at_all<std::vector<int>>(0, 50) == dealt);
  CHECK(f.read_at<std::vector<int>>(0, 50) == dealt);
  CHECK(f.iread_at<std::vector<int>>(0, 50).get() == dealt);
  CHECK(f.iread_at_all<std::vector<int>>(0, 50).get() == dealt);
  CHECK(f.read_at_all_begin(0, room).end().count<int>() == static_cast<MPI_Count>(dealt.size()));
  f.seek(0);
  CHECK(f.read_all<std::vector<int>>(50) == dealt);
  CHECK(f.read_all<std::vector<int>>(50).empty());
  f.set_view<int>(16);
  CHECK(f.read_at_all<std::vector<int>>(4, 50) == from_to(8, 10));
}

TEST_CASE("structs with padding lie in files as in memory, under views as well") {
  struct Padded {
    double x;
    int n;
    bool operator==(const Padded&) const = default;
  };
  const Folder folder;
  const Comm& comm = world();
  const int me = comm.rank();
  const int n = comm.size();
  File f(comm, folder / "padded", create);
  f.set_view<Padded>(8);
  std::vector<Padded> mine{{me + 0.5, me}, {me + 0.25, -me}};
  f.write_at_all(2 * me, mine);
  f.sync();
  barrier(comm);
  f.sync();
  CHECK(f.size() == 8 + 2 * n * static_cast<MPI_Offset>(sizeof(Padded)));
  const int next = (me + 1) % n;
  CHECK((f.read_at_all<Padded>(2 * next) == Padded{next + 0.5, next}));
  // Every n-th.
  const auto dealt = Datatype::contiguous<Padded>(1).resized(0, static_cast<MPI_Aint>(sizeof(Padded)) * n);
  f.set_view<Padded>(8 + me * static_cast<MPI_Offset>(sizeof(Padded)), dealt);
  const auto two = f.read_at_all<std::vector<Padded>>(0, 10);
  CHECK(two.size() == 2);
  f.reset_view();
  for (std::size_t i = 0; i < two.size(); ++i) {
    const auto at = me + n * static_cast<int>(i);
    CHECK((two[i] == Padded{at / 2 + (at % 2 == 0 ? 0.5 : 0.25), at % 2 == 0 ? at / 2 : -(at / 2)}));
  }
}

TEST_CASE("a split collective ends with its file") {
  const Folder folder;
  const Comm& comm = world();
  std::vector<int> data(10, comm.rank());
  File f(comm, folder / "split", create);
  auto writing = f.write_at_all_begin(comm.rank() * 10, data);
  CHECK(code_of([&] { static_cast<void>(f.write_all_begin(data)); }) == Errc::request);
  f.close();
  CHECK(code_of([&] { writing.end(); }) == Errc::file);
  CHECK(code_of([&] { writing.end(); }) == Errc::request);
  std::vector<int> in(10, -1);
  std::optional<File::Split> reading;
  {
    const File again(comm, folder / "split", Mode::read);
    reading.emplace(again.read_at_all_begin(comm.rank() * 10, in));
  }
  reading.reset();
  CHECK(in == data);
}

TEST_CASE("a folder is no file, and offsets do not wrap") {
  const Folder folder;
  const Comm& comm = world();
  CHECK(code_of([&] { File(comm, folder / "", Mode::read); }) == Errc::bad_file);
  CHECK(code_of([&] { File(comm, "/tmp", Mode::read); }) == Errc::bad_file);
  const File f = numbered(comm, folder / "f", 4);
  CHECK(code_of([&] { f.seek<double>((MPI_Offset{1} << 60) + 1); }) == Errc::arg);
  CHECK(code_of([&] { f.seek_shared<double>(MPI_Offset{1} << 61); }) == Errc::arg);
  CHECK(code_of([&] { static_cast<void>(f.byte_offset<double>(MPI_Offset{1} << 62)); }) == Errc::arg);
  CHECK(f.position() == 0);
  f.preallocate(8192);  // what is there stays
  CHECK(f.size() == 8192);
  CHECK(f.read_at<std::vector<int>>(0, 4) == from_to(0, 4));
  f.preallocate(10);
  CHECK(f.size() == 8192);
  barrier(comm);
}

}  // namespace
}  // namespace manyhands::mpi
