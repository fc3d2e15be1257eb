#include "manyhands/task/this_task.hpp"

#include <unistd.h>

#include <bit>
#include <optional>

#include "manyhands/base/clock.hpp"

namespace manyhands {
namespace {

thread_local constinit task::ContextScope* current = nullptr;

constexpr std::uint64_t step = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio

// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
constexpr std::uint64_t finish(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// Fills an engine's state with the output of two SplitMix64 generators, whose states are 128 bits of seed and
// stream. A std::seed_seq takes five times as long for the 624 words.
class StreamSeed {
 public:
  using result_type = std::uint_least32_t;
  StreamSeed(std::uint64_t seed, std::uint64_t stream) noexcept
      : first_(task::mix(seed, stream)), second_(task::mix(~seed, stream)) {}

  template <class Iterator>
  void generate(Iterator begin, Iterator end) noexcept {
    while (begin != end) {
      first_ += step;
      second_ += step;
      const std::uint64_t word = finish(first_) ^ std::rotl(finish(second_), 32);
      *begin++ = static_cast<result_type>(word);
      if (begin != end) *begin++ = static_cast<result_type>(word >> 32);
    }
  }

 private:
  std::uint64_t first_;
  std::uint64_t second_;
};

void seed_engine(std::mt19937_64& engine, std::uint64_t seed, std::uint64_t stream) {
  StreamSeed words(seed, stream);
  engine.seed(words);
}

// For who asks outside of tasks. A fork does not go on with its parent's numbers.
std::mt19937_64& rng_of_thread() {
  struct Own {
    pid_t pid = 0;
    std::mt19937_64 engine;
  };
  thread_local std::optional<Own> own;
  if (!own || own->pid != ::getpid()) {
    own.emplace().pid = ::getpid();
    std::random_device device;
    const auto draw = [&device] { return (std::uint64_t{device()} << 32) | device(); };
    const std::uint64_t seed = draw();
    seed_engine(own->engine, seed, draw());
  }
  return own->engine;
}

}  // namespace

namespace this_task {

bool stop_requested() noexcept {
  if (current == nullptr) return false;
  const task::Context& context = current->context();
  if (context.stop != nullptr && context.stop->load(std::memory_order_relaxed) != 0)
    return true;  // a hint, orders nothing
  return context.deadline_at_ns != INT64_MAX && now_ns() >= context.deadline_at_ns;
}

std::int64_t index() noexcept { return current == nullptr ? -1 : current->index(); }

std::mt19937_64& rng() { return current == nullptr ? rng_of_thread() : current->rng(); }

std::uint64_t seed() { return current == nullptr ? rng_of_thread()() : current->seed(); }

std::uint32_t attempt() noexcept { return current == nullptr ? 0 : current->context().attempt; }

std::int32_t worker() noexcept { return current == nullptr ? -1 : current->context().worker; }

}  // namespace this_task

namespace task {

ContextScope::ContextScope(const Context& context) noexcept : context_(&context), before_(current) {
  current = this;
}
ContextScope::~ContextScope() { current = before_; }

std::int64_t ContextScope::index() const noexcept {
  if (context_->item != nullptr)
    return static_cast<std::int64_t>(context_->item->load(std::memory_order_relaxed));  // our own store
  return context_->index;
}

std::int64_t ContextScope::stream() const noexcept {
  return context_->item != nullptr || context_->is_item ? index() : 0;
}

std::uint64_t ContextScope::seed() const noexcept {
  return mix(mix(context_->seed, static_cast<std::uint64_t>(stream())), 1);
}

std::mt19937_64& ContextScope::rng() {
  const std::int64_t mine = stream();
  if (generator_ == nullptr || generator_->index != mine) {
    if (generator_ == nullptr) generator_ = std::make_unique<Generator>();
    generator_->index = mine;
    seed_engine(generator_->engine, context_->seed, static_cast<std::uint64_t>(mine));
  }
  return generator_->engine;
}

namespace {

Context of_item(std::int64_t index) noexcept {
  Context context = current == nullptr ? Context() : current->context();
  context.item = nullptr;
  context.index = index;
  context.is_item = true;
  return context;
}

}  // namespace

ItemScope::ItemScope(std::int64_t index) noexcept : context_(of_item(index)), scope_(context_) {}

std::uint64_t mix(std::uint64_t seed, std::uint64_t number) noexcept {
  return finish(finish(seed + step) + (number + 1) * step);
}

Seeds::Seeds() noexcept {
  static std::atomic<std::uint64_t> executors{0};
  // In a task: of its own stream, whatever its worker has done before.
  base_ = current != nullptr ? mix(current->seed(), current->next_executor())
                             : mix(0, executors.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace task
}  // namespace manyhands
