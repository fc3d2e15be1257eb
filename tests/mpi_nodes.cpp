// What depends on which ranks share a machine; nodes_test.py runs it on several, and reads what it prints.
// usage: mpi_nodes TABLE      (a file that only rank 0's machine has)

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "manyhands/mpi.hpp"

namespace mpi = manyhands::mpi;

namespace {

std::string host() {
  char name[256]{};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// The inode of what is mapped at `address`: two processes with the same one share the pages.
std::string inode_at(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    char inode[32]{};
    if (std::sscanf(line.c_str(), "%lx-%lx %*s %*s %*s %31s", &begin, &end, inode) != 3) continue;
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (begin <= at && at < end) return inode;
  }
  return "none";
}

}  // namespace

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  const std::string me = std::to_string(world.rank());
  world.print("host " + me + " " + host());

  const auto node = world.split_node();
  world.print("node " + me + " " + std::to_string(node.size()));

  const mpi::SharedArray<double> shared(node, 10);
  for (double& x : shared.local()) x = world.rank() + 1;
  shared.fence();
  const double sum = std::accumulate(shared.all().begin(), shared.all().end(), 0.0);
  shared.fence();
  world.print("shared " + me + " " + std::to_string(static_cast<int>(sum)));

  const auto table = mpi::collective::read(world, argv[1]);
  std::size_t letters = 0;
  for (const std::byte b : table.bytes()) letters += b == std::byte{'x'} ? 1 : 0;
  world.print("table " + me + " " + std::to_string(letters) + " " + inode_at(table.bytes().data()));
  world.print("text " + me + " " +
              world.bcast(std::string(world.rank() == 0 ? 200'000 : 0, 'y')).substr(0, 3));

  mpi::Pool pool(world);
  if (!pool) return 0;
  std::map<std::string, int> seen;
  while (seen.size() < 2) {  // one host alone may be quick enough to do a whole round
    for (const auto& name : pool.map([](int) { return host(); }, std::vector<int>(100))) ++seen[name];
  }
  const auto squares = pool.map([](double x) { return x * x; }, std::vector<double>{1, 2, 3});
  std::printf("pool %d hosts, %g\n", static_cast<int>(seen.size()), squares.back());
}
