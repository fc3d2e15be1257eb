// The talk's point-to-point messages: an object from rank 0 to rank 1, under tag 11. Any type travels,
// nothing is registered.
//
//   manyhands run -n 2 mpi_p2p

#include <fmt/format.h>

#include <manyhands/mpi.hpp>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace mpi = manyhands::mpi;

using Dict = std::map<std::string, std::variant<int, double, std::string>>;

struct Sample {
  std::string name;
  std::vector<double> values;
  std::optional<int> quality;
};

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();

  if (world.rank() == 0) {
    world.send(Dict{{"a", 7}, {"b", 3.14}, {"c", "text"}}, {.dest = 1, .tag = 11});
    world.send(Sample{"copper", {1.5, 2.5}, 3}, {.dest = 1, .tag = 12});
  } else if (world.rank() == 1) {
    const auto data = world.recv<Dict>({.source = 0, .tag = 11});
    fmt::print("rank 1 got {{'a': {}, 'b': {}, 'c': '{}'}}\n", std::get<int>(data.at("a")),
               std::get<double>(data.at("b")), std::get<std::string>(data.at("c")));
    const auto sample = world.recv<Sample>({.source = 0, .tag = 12});
    fmt::print("rank 1 got {}: {} values, quality {}\n", sample.name, sample.values.size(),
               sample.quality.value());
  }
}
