// raytrace: renders a scene file on several executors, checks that all give the same pixels, and shows what
// more workers are worth.
//
// The function that is mapped over the tiles is the same everywhere; only the executor changes.

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <manyhands/multicore.hpp>
#ifdef RAYTRACER_MPI
#include <manyhands/mpi.hpp>
#endif
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "image.hpp"
#include "plot.hpp"
#include "tracer.hpp"

namespace mh = manyhands;
using namespace raytracer;

namespace {

constexpr float exposure = 1.25F;
constexpr const char* known_executors = "serial, threads, processes, mpi";
#ifdef RAYTRACER_MPI
constexpr bool has_mpi = true;
#else
constexpr bool has_mpi = false;
#endif

// The command line asks for what cannot be: exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string scene;
  std::string output = "out.png";
  std::string plot;  // empty: none
  std::vector<std::string> executors;
  int workers = mh::cpu_count();
  Picture picture;
};

// One executor with one number of workers.
struct Measurement {
  std::string executor;
  int workers = 1;
  double ready_seconds = 0;  // until every worker had loaded the scene
  double render_seconds = 0;
  std::vector<Pixels> tiles;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// No executor: a loop, with the map of one.
struct Serial {
  template <class F, class T>
  auto map(const F& f, const std::vector<T>& items, const mh::MapOptions& options = {}) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::invoke_result_t<const F&, const T&>> results;
    results.reserve(items.size());
    for (const T& item : items) {
      results.push_back(f(item));
      if (options.progress) {
        options.progress({.done = results.size(),
                          .total = items.size(),
                          .elapsed = std::chrono::steady_clock::now() - start});
      }
    }
    return results;
  }
};

void preload(const std::string& scene) { (void)stage_of(scene); }

// Loads the scene where it runs and says which process that is.
struct WhoIsReady {
  std::string scene;

  int operator()(int) const {
    preload(scene);
    return ::getpid();
  }
};

// The one way to render, whatever does the work.
template <class Executor>
Measurement measure(Executor& executor, std::string name, int workers,
                    std::chrono::steady_clock::time_point started, const Arguments& arguments) {
  Measurement m{.executor = std::move(name), .workers = workers, .ready_seconds = seconds_since(started)};
  const auto start = std::chrono::steady_clock::now();
  m.tiles =
      executor.map(RenderTile{arguments.scene, arguments.picture}, tiles_of(arguments.picture),
                   {.chunk = 1, .progress = mh::progress_bar(fmt::format("{} x{}", m.executor, workers))});
  m.render_seconds = seconds_since(start);
  return m;
}

// Until each worker process has answered once; a bounded number of times, for a worker may be slow to come.
template <class Pool>
void wait_until_ready(Pool& pool, int workers, const std::string& scene) {
  std::set<int> ready;
  for (int round = 0; round < 200 && std::ssize(ready) < workers; ++round) {
    for (const int pid :
         pool.map(WhoIsReady{scene}, std::vector<int>(static_cast<std::size_t>(workers)), {.chunk = 1})) {
      ready.insert(pid);
    }
  }
}

#ifdef RAYTRACER_MPI
using MpiPool = mh::mpi::Pool;
#else
struct MpiPool {};
#endif

Measurement run(const std::string& executor, int workers, const Arguments& arguments,
                [[maybe_unused]] MpiPool* ranks) {
  const auto started = std::chrono::steady_clock::now();
#ifdef RAYTRACER_MPI
  if (executor == "mpi") {
    wait_until_ready(*ranks, workers, arguments.scene);
    return measure(*ranks, executor, workers, started, arguments);
  }
#endif
  if (executor == "processes") {
    mh::Pool pool{workers, {.initializer = mh::bind(preload, arguments.scene)}};
    wait_until_ready(pool, workers, arguments.scene);
    return measure(pool, executor, workers, started, arguments);
  }
  preload(arguments.scene);
  if (executor == "threads") {
    mh::ThreadPool threads{workers};
    return measure(threads, executor, workers, started, arguments);
  }
  Serial serial;
  return measure(serial, executor, workers, started, arguments);
}

// 1, 2, 4, ... and all. One worker is left out where the serial run stands for it.
std::vector<int> worker_counts(const std::string& executor, const Arguments& arguments,
                               [[maybe_unused]] const MpiPool* ranks) {
  if (executor == "serial") return {1};
#ifdef RAYTRACER_MPI
  if (executor == "mpi") return {ranks->size()};
#endif
  const auto& all = arguments.executors;
  const bool serial_too = std::find(all.begin(), all.end(), "serial") != all.end();
  std::vector<int> counts;
  for (int n = serial_too && arguments.workers > 1 ? 2 : 1; n < arguments.workers; n *= 2)
    counts.push_back(n);
  counts.push_back(arguments.workers);
  return counts;
}

std::size_t differing_pixels(const Measurement& a, const Measurement& b) {
  std::size_t count = 0;
  for (std::size_t tile = 0; tile < a.tiles.size(); ++tile) {
    const auto &p = a.tiles[tile].rgb, &q = b.tiles[tile].rgb;
    for (std::size_t i = 0; i < p.size(); i += 3) {
      count += std::equal(&p[i], &p[i] + 3, &q[i]) ? 0 : 1;
    }
  }
  return count;
}

std::vector<float> assembled(const std::vector<Pixels>& tiles, const Picture& picture) {
  std::vector<float> rgb(std::size_t{picture.width} * picture.height * 3);
  const auto places = tiles_of(picture);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Tile& t = places[i];
    for (std::uint32_t row = 0; row < t.height; ++row) {
      std::copy_n(&tiles[i].rgb[std::size_t{row} * t.width * 3], t.width * 3,
                  &rgb[(std::size_t{t.y + row} * picture.width + t.x) * 3]);
    }
  }
  return rgb;
}

double million_rays_per_second(const Measurement& m) {
  std::uint64_t rays = 0;
  for (const Pixels& tile : m.tiles) rays += tile.rays;
  return static_cast<double>(rays) / m.render_seconds / 1e6;
}

// The curve of each executor; its run with one worker is its own or, without one, the first of all.
std::vector<Series> series_of(const std::vector<Measurement>& runs,
                              const std::vector<std::string>& executors) {
  const double one = runs.front().render_seconds;
  std::vector<Series> all;
  for (const auto& name : executors) {
    Series series{.name = name};
    std::vector<mh::Run> measured;
    for (const Measurement& m : runs) {
      if (m.executor != name) continue;
      series.points.push_back({m.workers, one / m.render_seconds});
      measured.push_back({m.workers, m.render_seconds});
    }
    if (name != "serial") {
      if (measured.front().workers > 1) measured.insert(measured.begin(), {1, one});
      if (measured.size() > 1) series.serial_fraction = mh::fit_amdahl(measured).serial_fraction;
    }
    all.push_back(std::move(series));
  }
  return all;
}

void print_table(const std::vector<Measurement>& runs, const std::vector<Series>& series) {
  fmt::print("\n{:<12}{:>8}{:>10}{:>10}{:>10}{:>10}\n", "executor", "workers", "ready", "render", "speedup",
             "Mrays/s");
  for (const Measurement& m : runs) {
    fmt::print("{:<12}{:>8}{:>8.2f} s{:>8.2f} s{:>10.2f}{:>10.2f}\n", m.executor, m.workers, m.ready_seconds,
               m.render_seconds, runs.front().render_seconds / m.render_seconds, million_rays_per_second(m));
  }
  fmt::print("\n");
  for (const Series& s : series) {
    if (!s.serial_fraction) continue;
    if (*s.serial_fraction <= 0) {
      fmt::print("Amdahl's law, {}: no serial fraction to be seen\n", s.name);
    } else {
      fmt::print(
          "Amdahl's law, {}: serial fraction {:.2f} %, so at most {:.0f} times as fast with any number of "
          "workers\n",
          s.name, *s.serial_fraction * 100, mh::amdahl(*s.serial_fraction));
    }
  }
}

// `ranks`: the pool over the MPI job, if mpi is among the executors.
int render_all(const Arguments& arguments, MpiPool* ranks) {
  check_writable(arguments.output);
  if (!arguments.plot.empty()) check_writable(arguments.plot);
  (void)read_model(arguments.scene);  // a broken scene is told before any worker starts

  std::vector<Measurement> runs;
  for (const auto& executor : arguments.executors) {
    for (const int workers : worker_counts(executor, arguments, ranks)) {
      runs.push_back(run(executor, workers, arguments, ranks));
      const Measurement &first = runs.front(), &last = runs.back();
      if (const auto count = differing_pixels(first, last); count > 0) {
        throw std::runtime_error(fmt::format("{} of {} pixels differ between {} x{} and {} x{}", count,
                                             std::size_t{arguments.picture.width} * arguments.picture.height,
                                             first.executor, first.workers, last.executor, last.workers));
      }
    }
  }
  const auto series = series_of(runs, arguments.executors);
  print_table(runs, series);
  if (runs.size() > 1) {
    fmt::print("All {} runs gave the same {} pixels, bit for bit.\n", runs.size(),
               std::size_t{arguments.picture.width} * arguments.picture.height);
  }

  auto rgb = assembled(runs.front().tiles, arguments.picture);
  despeckle(rgb, arguments.picture.width, arguments.picture.height);
  soften_grain(rgb, arguments.picture.width, arguments.picture.height);
  write_png(arguments.output, arguments.picture.width, arguments.picture.height, tone_map(rgb, exposure));
  fmt::print("picture: {}\n", arguments.output);
  if (!arguments.plot.empty()) {
    write_file(arguments.plot,
               speedup_svg(series, fmt::format("Ray tracing at {}x{}, {} samples", arguments.picture.width,
                                               arguments.picture.height, arguments.picture.samples)));
    fmt::print("speedup: {}\n", arguments.plot);
  }
  return 0;
}

Picture with_size(Picture picture, const std::string& size) {
  unsigned width = 0, height = 0;
  char rest = 0;
  constexpr unsigned most = 16384;
  if (size.find_first_not_of("0123456789x") != size.npos || size.size() > 11 ||
      std::sscanf(size.c_str(), "%ux%u%c", &width, &height, &rest) != 2 || width == 0 || height == 0 ||
      width > most || height > most) {
    throw UsageError(
        fmt::format("--size: '{}' is not WIDTHxHEIGHT, each from 1 to {}; e.g. 640x480", size, most));
  }
  picture.width = width;
  picture.height = height;
  return picture;
}

std::vector<std::string> executors_in(const std::string& list) {
  std::vector<std::string> names;
  std::istringstream stream{list};
  for (std::string name; std::getline(stream, name, ',');) {
    if (name == "mpi" && !has_mpi) throw UsageError("--on: this raytrace was built without MPI");
    if (name != "serial" && name != "threads" && name != "processes" && name != "mpi") {
      throw UsageError(fmt::format("--on: unknown executor '{}'; there are {}", name, known_executors));
    }
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      throw UsageError(fmt::format("--on: '{}' is named twice", name));
    }
    names.push_back(name);
  }
  if (names.empty()) throw UsageError(fmt::format("--on: no executor named; there are {}", known_executors));
  return names;
}

// Nothing when only the help was wanted.
std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  std::string size = fmt::format("{}x{}", arguments.picture.width, arguments.picture.height);
  std::string executors = "serial,threads,processes";
  CLI::App app{
      "Renders a scene (OBJ with MTL) on one or more executors, checks that all give the same pixels,\n"
      "and tells what more workers are worth.",
      "raytrace"};
  app.add_option("SCENE", arguments.scene, "the scene file, e.g. still_life.obj")->required()->type_name("");
  app.add_option("-o,--output", arguments.output, "the picture to write, a PNG")
      ->capture_default_str()
      ->type_name("FILE");
  app.add_option(
         "--on", executors,
         fmt::format("executors, one after the other: {} (mpi: the ranks that `manyhands run -n N` started)",
                     known_executors))
      ->capture_default_str()
      ->type_name("LIST");
  app.add_option("--workers", arguments.workers,
                 "workers of an executor; also measured are 1, 2, 4, ... below it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--size", size, "of the picture, in pixels")->capture_default_str()->type_name("WxH");
  app.add_option("--samples", arguments.picture.samples,
                 "light paths per pixel; twice as many take twice the time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->type_name("S");
  app.add_option("--plot", arguments.plot, "also write a plot of the speedups, an SVG")->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{} (raytrace --help lists the options)", error.what()));
  }
  arguments.executors = executors_in(executors);
  arguments.picture = with_size(arguments.picture, size);
  return arguments;
}

}  // namespace

// On the ranks of an MPI job: rank 0 renders, the others work for it.
int render_with_ranks([[maybe_unused]] const Arguments& arguments) {
#ifdef RAYTRACER_MPI
  MpiPool ranks(mh::mpi::world());
  if (ranks) return render_all(arguments, &ranks);
#endif
  return 0;
}

// Calls f and prints what goes wrong: the exit status.
template <class F>
int reporting(F f) {
  try {
    return f();
  } catch (const UsageError& error) {
    fmt::print(stderr, "raytrace: {}\n", error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "raytrace: not enough memory for this picture; try a smaller --size\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "raytrace: {}\n", error.what());
  }
  return 1;
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::optional<Arguments> arguments;
  const int parsed = reporting([&] {
    arguments = parse(argc, argv);
    return 0;
  });
  if (!arguments) return parsed;
  const auto& executors = arguments->executors;
  if (std::find(executors.begin(), executors.end(), "mpi") == executors.end())
    return reporting([&] { return render_all(*arguments, nullptr); });
#ifdef RAYTRACER_MPI
  const mh::mpi::Environment env(argc, argv);
#endif
  return reporting([&] { return render_with_ranks(*arguments); });
}
