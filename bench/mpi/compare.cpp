// Ours beside raw C in one MPI job: blocks of the one and the other by turns, so that a slow moment hits
// both.
//
// usage: compare MPI GROUP [BLOCKS]    MPI: a word in front of the rows' names; GROUP: messages (2 ranks),
// collectives (4)
//
// Rank 0 prints for each row a line of JSON with the seconds of one operation in each block (half a round
// trip for messages), and for small messages how much ours takes above raw C. The raw calls run in a process
// of ours, on the same communicator, at the same thread level.

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../sides.hpp"
#include "ours.hpp"
#include "raw.hpp"

namespace {

namespace mpi = manyhands::mpi;
using bench::raw::Buffers;

struct Setting {
  std::string prefix;  // of the rows: "openmpi "
  int blocks = 15;
};

// One operation, `times` times.
using Side = std::function<void(int times)>;

struct Case {
  std::string name;  // "8 B"
  int times;         // in a block
  double share;      // of one operation that is reported: 0.5 for half a round trip
  Side raw;
  Side ours;
  bool difference = false;  // report what ours takes above raw C, too
};

double block(const Side& side, const Case& c) {
  mpi::world().barrier();
  const double start = mpi::wtime();
  side(c.times);
  mpi::world().barrier();  // the slowest rank counts
  return (mpi::wtime() - start) / c.times * c.share;
}

void measure(const Setting& setting, const Case& c) {
  static_cast<void>(block(c.raw, c));
  static_cast<void>(block(c.ours, c));
  bench::Samples raw, ours, above;
  for (int i = 0; i < setting.blocks; ++i) {
    if (i % 2 == 0) raw.push_back(block(c.raw, c));
    ours.push_back(block(c.ours, c));
    if (i % 2 == 1) raw.push_back(block(c.raw, c));
    above.push_back(ours.back() - raw.back());
  }
  if (mpi::world().rank() != 0) return;
  bench::report(setting.prefix + c.name + ": raw C", raw);
  bench::report(setting.prefix + c.name + ": ours", ours);
  if (c.difference) bench::report(setting.prefix + c.name + ": ours above raw C", above);
}

std::string size_name(std::size_t bytes) {
  if (bytes >= 1 << 20) return fmt::format("{} MB", bytes >> 20);
  if (bytes >= 1 << 10) return fmt::format("{} KB", bytes >> 10);
  return fmt::format("{} B", bytes);
}

int times_for(std::size_t bytes) {  // some milliseconds a block
  if (bytes <= 1 << 10) return 4000;
  if (bytes <= 64 << 10) return 500;
  return bytes <= 1 << 20 ? 40 : 4;
}

void messages(const Setting& setting) {
  const mpi::Comm& world = mpi::world();
  MPI_Comm comm = world.native();
  for (const std::size_t bytes : {8u, 1u << 10, 8u << 10, 64u << 10, 1u << 20, 16u << 20}) {
    std::vector<double> data(bytes / sizeof(double), 1.0);
    measure(setting, {"doubles, " + size_name(bytes), times_for(bytes), 0.5,
                      [&](int times) {
                        bench::raw::ping_pong(comm, data.data(), static_cast<int>(data.size()), MPI_DOUBLE,
                                              times);
                      },
                      [&](int times) { bench::ours::ping_pong(world, std::span(data), times); }, bytes == 8});
  }
  for (const std::size_t bytes : {32u, 8u << 10, 64u << 10, 1u << 20, 16u << 20}) {
    std::vector<bench::ours::Record> data(bytes / sizeof(bench::ours::Record));
    measure(setting, {"structs, " + size_name(bytes), times_for(bytes), 0.5,
                      [&](int times) {
                        bench::raw::ping_pong(comm, data.data(), static_cast<int>(bytes), MPI_BYTE, times);
                      },
                      [&](int times) { bench::ours::ping_pong(world, std::span(data), times); }});
  }
  for (const std::size_t bytes : {64u << 10, 1u << 20, 16u << 20}) {
    std::vector<char> same_size(bytes);
    bench::ours::Object object{"an object", {{"a", 7}, {"b", 3.14}}, {}};
    const std::size_t rows = 32;
    object.rows.assign(rows, std::vector<double>(bytes / rows / sizeof(double), 1.5));
    measure(setting, {"object, " + size_name(bytes), times_for(bytes), 0.5,
                      [&](int times) {
                        bench::raw::ping_pong(comm, same_size.data(), static_cast<int>(bytes), MPI_BYTE,
                                              times);
                      },
                      [&](int times) { bench::ours::ping_pong_values(world, object, times); }});
  }
  {
    std::vector<char> same_size(24);
    std::map<std::string, double> dict{{"a", 7}, {"b", 3.14}};
    measure(setting, {"dict", times_for(24), 0.5,
                      [&](int times) {
                        bench::raw::ping_pong(comm, same_size.data(), static_cast<int>(same_size.size()),
                                              MPI_BYTE, times);
                      },
                      [&](int times) { bench::ours::ping_pong_values(world, dict, times); }, true});
  }
}

void collectives(const Setting& setting) {
  const mpi::Comm& world = mpi::world();
  MPI_Comm comm = world.native();
  const auto ranks = static_cast<std::size_t>(world.size());
  for (const std::size_t bytes : {1u << 10, 1u << 20}) {
    std::vector<double> part(bytes / sizeof(double), 1.0), other_part(part), whole(part.size() * ranks, 1.0),
        other_whole(whole);
    const Buffers buffers{part, other_part, whole, other_whole};
    const int times = bytes == 1 << 10 ? 200 : 5;
    const auto add = [&](const char* name, auto raw, auto ours) {
      measure(setting, {std::string(name) + ", " + size_name(bytes), times, 1.0,
                        [&](int n) { raw(comm, buffers, n); }, [&](int n) { ours(world, buffers, n); }});
    };
    add("bcast", bench::raw::bcast, bench::ours::bcast);
    add("scatter", bench::raw::scatter, bench::ours::scatter);
    add("gather", bench::raw::gather, bench::ours::gather);
    add("allgather", bench::raw::allgather, bench::ours::allgather);
    add("alltoall", bench::raw::alltoall, bench::ours::alltoall);
    add("reduce", bench::raw::reduce, bench::ours::reduce);
    add("allreduce", bench::raw::allreduce, bench::ours::allreduce);
    add("reduce_scatter", bench::raw::reduce_scatter, bench::ours::reduce_scatter);
    add("scan", bench::raw::scan, bench::ours::scan);
  }
}

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment env(argc, argv);
  const std::string_view group = argc > 2 ? argv[2] : "";
  const Setting setting{argc > 1 ? std::string(argv[1]) + " " : "", argc > 3 ? std::atoi(argv[3]) : 15};
  if (group == "messages" && mpi::world().size() == 2)
    messages(setting);
  else if (group == "collectives")
    collectives(setting);
  else
    mpi::abort("usage: compare MPI messages|collectives [BLOCKS], messages with 2 ranks", 2);
}
