#include "manyhands/process/placement.hpp"

#include <dlfcn.h>
#include <fmt/core.h>
#include <hwloc.h>
#include <hwloc/glibc-sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include "manyhands/base/cores.hpp"
#include "manyhands/base/error.hpp"

namespace manyhands::process {
namespace {

std::atomic<bool> is_worker{false};

struct Topology {
  hwloc_topology_t handle = nullptr;
  Topology() {
    if (::hwloc_topology_init(&handle) != 0 || ::hwloc_topology_load(handle) != 0)
      throw Error("read the machine's topology for a pool with .bind: hwloc cannot; use Bind::none");
  }
  ~Topology() { ::hwloc_topology_destroy(handle); }
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, decltype(&::hwloc_bitmap_free)>;
Bitmap make_bitmap() { return {::hwloc_bitmap_alloc(), &::hwloc_bitmap_free}; }

// What this process may use: hwloc's own view ignores the affinity that a batch system gave us.
Bitmap allowed_cores(hwloc_topology_t topology) {
  Bitmap allowed = make_bitmap();
  cpu_set_t mask;
  CPU_ZERO(&mask);
  ::sched_getaffinity(0, sizeof mask, &mask);
  ::hwloc_cpuset_from_glibc_sched_affinity(topology, allowed.get(), &mask, sizeof mask);
  return allowed;
}

// The allowed part of each object of `type`, those without one left out.
std::vector<Bitmap> parts_of(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_const_bitmap_t allowed) {
  std::vector<Bitmap> parts;
  for (hwloc_obj_t object = nullptr;
       (object = ::hwloc_get_next_obj_by_type(topology, type, object)) != nullptr;) {
    Bitmap part = make_bitmap();
    ::hwloc_bitmap_and(part.get(), object->cpuset, allowed);
    if (::hwloc_bitmap_iszero(part.get()) == 0) parts.push_back(std::move(part));
  }
  return parts;
}

template <class F>
void call_if_loaded(const char* name, int value) noexcept {
  if (auto* function = reinterpret_cast<F*>(::dlsym(RTLD_DEFAULT, name)); function != nullptr)
    function(value);
}

}  // namespace

std::vector<cpu_set_t> place_workers(Bind bind, std::uint32_t workers) {
  std::vector<cpu_set_t> placed;
  if (bind == Bind::none) return placed;
  static const Topology topology;
  const Bitmap allowed = allowed_cores(topology.handle);
  auto parts =
      parts_of(topology.handle, bind == Bind::core ? HWLOC_OBJ_CORE : HWLOC_OBJ_NUMANODE, allowed.get());
  // Some virtual machines tell of no cores, only of processing units.
  if (parts.empty()) parts = parts_of(topology.handle, HWLOC_OBJ_PU, allowed.get());
  if (parts.empty())
    throw Error(
        "a pool with .bind: the machine's topology shows none of the cores that this process may use");
  for (std::uint32_t worker = 0; worker < workers; ++worker) {
    // Fewer workers than cores: with as much between them as there is.
    const std::size_t part = workers < parts.size() ? worker * parts.size() / workers : worker % parts.size();
    cpu_set_t set;
    CPU_ZERO(&set);
    ::hwloc_cpuset_to_glibc_sched_affinity(topology.handle, parts[part].get(), &set, sizeof set);
    placed.push_back(set);
  }
  return placed;
}

constexpr const char* thread_variables[] = {"OMP_NUM_THREADS",     "OPENBLAS_NUM_THREADS",
                                            "MKL_NUM_THREADS",     "BLIS_NUM_THREADS",
                                            "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"};

void limit_inner_threads(int threads) noexcept {
  const std::string text = std::to_string(std::max(threads, 1));
  for (const char* name : thread_variables) {
    // What the user set applies to them, also where they are loaded already.
    if (::getenv(name) != nullptr) return;
  }
  for (const char* name : thread_variables) ::setenv(name, text.c_str(), 0);
  // Those that were loaded before this process was forked have read theirs long ago.
  call_if_loaded<void(int)>("omp_set_num_threads", threads);
  call_if_loaded<void(int)>("openblas_set_num_threads", threads);
  call_if_loaded<void(int)>("MKL_Set_Num_Threads", threads);
  call_if_loaded<void(long)>("bli_thread_set_num_threads", threads);
}

namespace {

const bool gives_back = [] {
  shm::on_last_release(shm::BlockKind::tokens, [](shm::Offset block) {
    shm::cpu_tokens_taken().fetch_sub(shm::at<std::int32_t>(block));
  });
  return true;
}();

}  // namespace

CpuTokens CpuTokens::take(int wanted) {
  static_cast<void>(gives_back);
  CpuTokens tokens;
  shm::ensure_heap();
  auto& taken = shm::cpu_tokens_taken();
  std::int32_t before = taken.load();
  std::int32_t some = 0;
  do {
    some = std::clamp(cpu_count() - before, 0, wanted);
  } while (!taken.compare_exchange_weak(before, before + some));
  if (some == 0) return tokens;
  tokens.block_ = shm::Block::create(sizeof(std::int32_t), shm::BlockKind::tokens);
  shm::at<std::int32_t>(tokens.block_->offset()) = some;
  return tokens;
}

int CpuTokens::count() const noexcept {
  return block_ == nullptr ? 0 : shm::at<std::int32_t>(block_->offset());
}

int cpu_tokens_left() noexcept {
  if (!shm::have_heap()) return cpu_count();
  // Those of a process that the program forked, and that nobody of ours waits for, come back when somebody
  // looks.
  if (shm::cpu_tokens_taken().load() > 0) shm::sweep();
  return std::max(cpu_count() - shm::cpu_tokens_taken().load(), 0);
}

bool in_worker() noexcept { return is_worker.load(std::memory_order_relaxed); }
void set_in_worker() noexcept { is_worker.store(true); }

}  // namespace manyhands::process
