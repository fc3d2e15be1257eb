#include "manyhands/process/pool.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "manyhands/base/cores.hpp"
#include "manyhands/process/init.hpp"

namespace manyhands {
namespace {

process::CrewOptions crew_options(int workers, const PoolOptions& options) {
  if (workers < 0 || workers > static_cast<int>(process::max_workers)) {
    throw Error(fmt::format("a pool of {} workers was asked for; it can have 1 to {}, or 0 for one per core",
                            workers, process::max_workers));
  }
  if (options.retries < 0)
    throw Error(fmt::format("a pool's retries cannot be negative ({})", options.retries));
  if (options.start == Start::spawn && !process::initialized()) {
    throw Error(
        "a pool with Start::spawn starts this program anew for each worker, which mh::init(argc, argv) must "
        "divert: call it first in main");
  }
  if (options.start == Start::fork && (options.initializer.given() || options.max_tasks_per_worker != 0)) {
    throw Error(
        "a pool with Start::fork has new workers at each call: initializer and max_tasks_per_worker do not "
        "apply; prepare what they need before the call, they see a copy");
  }
  if (options.inner_threads < -1)
    throw Error(fmt::format(
        "a pool's inner_threads is {}; it must be a number of threads, 0 for a share of the cores, or -1",
        options.inner_threads));
  const int cores = process::in_worker() ? process::cpu_tokens_left() + 1 : cpu_count();
  if (workers == 0) workers = cores;
  if (process::in_worker() && !options.oversubscribe) workers = std::min(workers, cores);
  process::CrewOptions crew{
      .workers = static_cast<std::uint32_t>(workers),
      .start = options.start,
      .max_tasks_per_worker = options.max_tasks_per_worker,
      .memory_limit = options.memory_limit,
      .retries = options.retries,
      .bind = options.bind,
      .inner_threads = options.inner_threads == 0 ? std::max(cores / workers, 1) : options.inner_threads,
      .initializer = {},
      .initializer_named = {},
      .initializer_call = {},
      .has_initializer = options.initializer.given()};
  if (crew.has_initializer) {
    crew.initializer = options.initializer.thunk();
    crew.initializer_call = options.initializer.call();
    crew.initializer_named = options.initializer.named();
  }
  return crew;
}

}  // namespace

Pool::Pool(int workers, const PoolOptions& options)
    : options_(crew_options(workers, options)), exceptions_(std::uncaught_exceptions()) {
  workers_ = static_cast<int>(options_.workers);
  // A worker that makes a pool has the token of its own core.
  tokens_ = process::CpuTokens::take(process::in_worker() ? workers_ - 1 : workers_);
  if (options_.start == Start::fork) {
    options_.turns = std::make_shared<process::ForkTurns>(options_.workers);
  } else {
    crew_ = process::Crew::start(options_);
  }
}

Pool::~Pool() {
  try {
    if (std::uncaught_exceptions() > exceptions_) {
      terminate();
    } else {
      close();
    }
  } catch (...) {
    terminate();  // Ctrl-C while closing
  }
}

std::shared_ptr<process::Crew> Pool::crew_for(int workers) {
  if (crew_ != nullptr) return crew_;
  {
    const std::lock_guard lock(forked_mutex_);
    if (life_ == Life::closed) throw PoolBroken("this pool is closed; it takes no more tasks");
    if (life_ == Life::terminated) throw PoolBroken("this pool was terminated; it takes no more tasks");
  }
  auto options = options_;
  options.workers = static_cast<std::uint32_t>(workers);
  auto crew = process::Crew::start(options);
  std::vector<std::shared_ptr<process::Crew>> done;
  const std::lock_guard lock(forked_mutex_);
  const auto first_done =
      std::partition(forked_.begin(), forked_.end(), [](const auto& c) { return !c->idle(); });
  done.assign(std::make_move_iterator(first_done), std::make_move_iterator(forked_.end()));
  forked_.erase(first_done, forked_.end());
  for (const auto& c : done) c->close();
  forked_.push_back(crew);
  return crew;
}

std::vector<std::shared_ptr<process::Crew>> Pool::last_crews(Life life) {
  const std::lock_guard lock(forked_mutex_);
  life_ = std::max(life_, life);
  return forked_;
}

void Pool::close() {
  if (crew_ != nullptr) crew_->close();
  for (const auto& crew : last_crews(Life::closed))
    crew->close();  // another thread may terminate() them meanwhile
}

void Pool::terminate() {
  if (crew_ != nullptr) crew_->terminate();
  for (const auto& crew : last_crews(Life::terminated)) crew->terminate();
}

std::vector<int> Pool::pids() { return crew_ != nullptr ? crew_->pids() : std::vector<int>(); }

}  // namespace manyhands
