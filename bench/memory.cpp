// What an idle worker keeps for itself, and whether an endless stream grows.

#include <unistd.h>

#include <fstream>
#include <manyhands/multicore.hpp>
#include <ranges>
#include <string>

#include "ours.hpp"

namespace mh = manyhands;

namespace bench {
namespace {

// The sum of the fields of a file of /proc that start with `prefix`, in bytes ("Pss:   123 kB").
double bytes_in(const std::string& path, std::string_view prefix) {
  std::ifstream file(path);
  double sum_kb = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(prefix)) sum_kb += std::stod(line.substr(line.find(':') + 1));
  }
  require(sum_kb > 0, "no " + std::string(prefix) + " in " + path);
  return sum_kb * 1024;
}

double peak_resident_bytes() { return bytes_in("/proc/self/status", "VmHWM:"); }

double half(std::int64_t x) { return 0.5 * static_cast<double>(x); }

// Growth of this process's peak while `items` more come out of the stream.
template <class Iterator>
double growth_over(Iterator& at, int items) {
  const double before = peak_resident_bytes();
  for (int i = 0; i < items; ++i) ++at;
  return peak_resident_bytes() - before;
}

}  // namespace

void idle_worker(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  static_cast<void>(pool.map(half, std::vector<std::int64_t>(1000)));
  ::usleep(20'000);  // until the workers wait
  Samples pss, own;
  for (const int pid : pool.pids()) {
    const std::string path = "/proc/" + std::to_string(pid) + "/smaps_rollup";
    pss.push_back(bytes_in(path, "Pss:"));
    own.push_back(bytes_in(path, "Private_"));
  }
  report("worker: ours", pss);
  report("worker: ours, private pages only", own);
}

void endless_stream(const Program& program) {
  mh::init(program.argc, program.argv);
  mh::Pool pool{workers};
  auto stream = pool.imap(half, std::views::iota(std::int64_t{0}));
  auto at = stream.begin();
  for (int i = 0; i < 10'000; ++i) ++at;  // whatever is allocated once
  report("stream: ours, 100k items", {growth_over(at, 100'000)});
  report("stream: ours, the next 900k", {growth_over(at, 900'000)});
}

}  // namespace bench
