// Boost.MPI's side of `./dev bench mpi`, 2 ranks: doubles, an unregistered struct that is serialized, a map.
// Rows as compare.cpp.
//
// usage: boost MPI [BLOCKS]

#include <boost/mpi.hpp>
#include <boost/serialization/map.hpp>
#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "../sides.hpp"

namespace {

struct Record {
  double x, y, z;
  int id, kind;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive & x & y & z & id & kind;
  }
};

struct Object {
  std::string name;
  std::map<std::string, double> options;
  std::vector<std::vector<double>> rows;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive & name & options & rows;
  }
};

std::string size_name(std::size_t bytes) {
  if (bytes >= 1 << 20) return std::to_string(bytes >> 20) + " MB";
  if (bytes >= 1 << 10) return std::to_string(bytes >> 10) + " KB";
  return std::to_string(bytes) + " B";
}

template <class T>
void measure(const boost::mpi::communicator& world, const std::string& row, T& value, int times, int blocks) {
  bench::Samples samples;
  for (int i = 0; i <= blocks; ++i) {
    world.barrier();
    const auto start = bench::Clock::now();
    for (int k = 0; k < times; ++k) {
      if (world.rank() == 0) {
        world.send(1, 11, value);
        world.recv(1, 11, value);
      } else {
        world.recv(0, 11, value);
        world.send(0, 11, value);
      }
    }
    if (i > 0) samples.push_back(bench::seconds_since(start) / times / 2);  // the first warms up
  }
  if (world.rank() == 0) bench::report(row, samples);
}

}  // namespace

int main(int argc, char** argv) {
  boost::mpi::environment env(argc, argv);
  const boost::mpi::communicator world;
  const std::string prefix = argc > 1 ? std::string(argv[1]) + " " : "";
  const int blocks = argc > 2 ? std::atoi(argv[2]) : 7;
  if (world.size() != 2) world.abort(2);
  for (const std::size_t bytes : {8u, 1u << 10, 8u << 10, 64u << 10, 1u << 20, 16u << 20}) {
    std::vector<double> data(bytes / sizeof(double));
    measure(world, prefix + "doubles, " + size_name(bytes) + ": Boost.MPI", data,
            bytes <= 8 << 10   ? 1000
            : bytes <= 1 << 20 ? 30
                               : 2,
            blocks);
  }
  for (const std::size_t bytes : {32u, 8u << 10, 64u << 10, 1u << 20, 16u << 20}) {
    std::vector<Record> data(bytes / sizeof(Record));
    measure(world, prefix + "structs, " + size_name(bytes) + ": Boost.MPI", data,
            bytes <= 8 << 10   ? 200
            : bytes <= 1 << 20 ? 5
                               : 1,
            blocks);
  }
  for (const std::size_t bytes : {64u << 10, 1u << 20, 16u << 20}) {
    Object object{
        "an object",
        {{"a", 7}, {"b", 3.14}},
        std::vector<std::vector<double>>(32, std::vector<double>(bytes / 32 / sizeof(double), 1.5))};
    measure(world, prefix + "object, " + size_name(bytes) + ": Boost.MPI", object, bytes <= 1 << 20 ? 20 : 2,
            blocks);
  }
  std::map<std::string, double> dict{{"a", 7}, {"b", 3.14}};
  measure(world, prefix + "dict: Boost.MPI", dict, 1000, blocks);
}
