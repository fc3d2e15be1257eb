// Messages of more than 2^31 elements and an object of 3 GB, for real; 2 ranks, 9 GB of memory. Prints
// "skipped" if the machine has less.
#include <cstdio>
#include <fstream>
#include <string>

#include "manyhands/mpi.hpp"

namespace mpi = manyhands::mpi;

namespace {

struct Object {
  std::string name;
  std::vector<double> numbers;
};

constexpr std::size_t many = (std::size_t{1} << 31) + 11;

long available_mb() {
  std::ifstream info("/proc/meminfo");
  for (std::string word; info >> word;) {
    long kb = 0;
    if (word == "MemAvailable:" && info >> kb) return kb / 1024;
  }
  return 0;
}

void require(bool ok, const char* what) {
  if (!ok) mpi::abort(std::string("wrong: ") + what);
}

char byte_at(std::size_t i) { return static_cast<char>(i * 2654435761U >> 13); }

void check_range(const mpi::Comm& world) {
  if (world.rank() == 0) {
    std::vector<char> data(many);
    for (std::size_t i = 0; i < many; i += 4095) data[i] = byte_at(i);
    world.send(data, {.dest = 1});
    world.bcast_into(std::span(data));
  } else {
    std::vector<char> data(many);
    const auto check = [&](const char* what) {
      for (std::size_t i = 0; i < many; i += 4095) require(data[i] == byte_at(i), what);
    };
    const auto status = world.recv_into(std::span(data), {.source = 0});
    require(status.bytes == static_cast<MPI_Count>(many), "bytes");
    check("send and recv");
    data.assign(many, 0);
    world.bcast_into(std::span(data));
    check("bcast");
  }
}

// Parts that fit, of a whole that does not.
void check_parts(const mpi::Comm& world) {
  std::vector<char> whole;
  if (world.rank() == 0) {
    whole.resize(many);
    for (std::size_t i = 0; i < many; i += 4095) whole[i] = byte_at(i);
  }
  const std::vector<char> part = world.scatter_range(whole);
  std::vector<char>().swap(whole);
  const std::size_t first = world.rank() == 0 ? 0 : (many + 1) / 2;
  require(part.size() == (world.rank() == 0 ? (many + 1) / 2 : many / 2), "length of a part");
  for (std::size_t i = (first + 4094) / 4095 * 4095; i < first + part.size(); i += 4095)
    require(part[i - first] == byte_at(i), "scatter_range");
  const mpi::Ragged<char> gathered = world.gather(part);
  if (world.rank() != 0) return;
  require(gathered.values().size() == many, "length of what was gathered");
  for (std::size_t i = 0; i < many; i += 4095) require(gathered.values()[i] == byte_at(i), "gather");
}

void check_object(const mpi::Comm& world) {
  constexpr std::size_t count = (std::size_t{3} << 30) / sizeof(double);
  if (world.rank() == 0) {
    Object object{"large", std::vector<double>(count)};
    for (std::size_t i = 0; i < count; i += 511) object.numbers[i] = static_cast<double>(i);
    world.send(object, {.dest = 1});
  } else {
    const auto object = world.recv<Object>({.source = 0});
    require(object.name == "large" && object.numbers.size() == count, "object");
    for (std::size_t i = 0; i < count; i += 511)
      require(object.numbers[i] == static_cast<double>(i), "object's numbers");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  if (world.bcast(available_mb()) < 12'000) {
    if (world.rank() == 0) std::printf("skipped: less than 12 GB of memory are available\n");
    return 0;
  }
  check_range(world);
  check_parts(world);
  check_object(world);
  if (world.rank() == 0) std::printf("all arrived\n");
}
