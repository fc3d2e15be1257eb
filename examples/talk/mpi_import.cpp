// The import problem: a thousand ranks that load the same library and read the same file bring a file system
// down. Here both are done twice: first by each rank for itself, then together. Linux counts how often the
// two files are opened.
//
// usage: mpi_import LIBRARY      (of mpi_import_plugin.c; mpiexec -n 4 on one machine, because it is counted
// there)
#include <dlfcn.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <manyhands/mpi.hpp>
#include <string>

namespace mpi = manyhands::mpi;

// How often a file is opened, by any process of this machine.
class Opens {
 public:
  explicit Opens(const std::string& path) { ::inotify_add_watch(events_, path.c_str(), IN_OPEN | IN_CLOSE); }
  ~Opens() { ::close(events_); }
  int count() {
    alignas(inotify_event) char bytes[4096];
    for (ssize_t size; (size = ::read(events_, bytes, sizeof bytes)) > 0;) {
      for (ssize_t at = 0; at < size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(bytes + at);
        if ((event->mask & IN_OPEN) != 0) ++opens_;
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      }
    }
    return opens_;
  }

 private:
  int events_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  int opens_ = 0;
};

double area_by_ourselves(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW);
  const auto area = reinterpret_cast<double (*)(double)>(::dlsym(handle, "area"));
  const double value = area(2);
  ::dlclose(handle);
  return value;
}

int main(int argc, char** argv) {
  mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  if (argc != 2) mpi::abort("usage: mpi_import LIBRARY");
  const std::string library = argv[1];
  const std::string table = world.bcast("/tmp/mpi_import-" + std::to_string(::getpid()));
  if (world.rank() == 0) std::ofstream(table) << "one two three";
  world.barrier();
  const auto report = [&](const char* how, Opens& library_opens, Opens& table_opens, double area,
                          std::size_t bytes) {
    world.barrier();
    if (world.rank() == 0)
      std::printf("%s: area %.3f, %zu bytes; library opened %d times, file %d times\n", how, area, bytes,
                  library_opens.count(), table_opens.count());
  };

  {  // each for itself, one after the other so that none is missed in the count
    Opens library_opens(library), table_opens(table);
    double area = 0;
    std::string text;
    for (int rank = 0; rank < world.size(); ++rank) {
      world.barrier();
      if (rank == world.rank()) {
        area = area_by_ourselves(library);
        std::ifstream file(table);
        std::getline(file, text);
      }
      world.barrier();
      library_opens.count(), table_opens.count();
    }
    report("each for itself", library_opens, table_opens, area, text.size());
  }
  {  // together: rank 0 reads, a copy goes to each machine, all ranks map it
    Opens library_opens(library), table_opens(table);
    world.barrier();
    const auto plugin = mpi::collective::dlopen(world, library);
    const auto contents = mpi::collective::read(world, table);
    report("together", library_opens, table_opens, plugin.symbol<double(double)>("area")(2), contents.size());
  }

  if (world.rank() == 0) std::filesystem::remove(table);
  world.barrier();
  try {  // failure is everybody's
    mpi::collective::read(world, table);
  } catch (const mpi::Error& error) {
    if (world.rank() == world.size() - 1)
      std::printf("the last rank, too: no such file: %s\n", mpi::name_of(error.code()).data());
  }
}
