#include "manyhands/shm/block.hpp"

#include <fmt/core.h>
#include <pthread.h>

#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "manyhands/base/error.hpp"

namespace manyhands::shm {

// The blocks that this process holds, so that two messages that name one block share one hold.
class BlockRegistry {
 public:
  static BlockRegistry& instance() noexcept {
    static BlockRegistry* const registry =
        new BlockRegistry;  // never destroyed: globals release blocks after main
    return *registry;
  }

  // Takes over one reference to `payload`.
  BlockPtr adopt(Offset payload) {
    const std::lock_guard lock(mutex_);
    return enter(payload);
  }

  BlockPtr attach(Offset payload, BlockKind kind) {
    const std::lock_guard lock(mutex_);
    if (const auto found = blocks_.find(payload); found != blocks_.end()) {
      // A Block whose last owner is just going still stands here: then a second hold is taken.
      if (auto block = found->second.lock(); block != nullptr && is_block(payload, kind)) return block;
    }
    if (!is_block(payload, kind) || !try_ref(payload)) {
      throw Error(
          fmt::format("a message names a {} of this program's shared memory that is no longer there: every "
                      "process that held it has let go of it or ended",
                      name_of(kind)));
    }
    return enter(payload);
  }

  bool is_named(Offset payload) noexcept {
    BlockPtr block;  // let go of after the mutex: it may be the last one by then
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(payload);
    if (found != blocks_.end()) block = found->second.lock();
    return block != nullptr && block->is_named();
  }

  void forget(Block& block) noexcept {
    {
      const std::lock_guard lock(mutex_);
      live_.erase(&block);
      const auto found = blocks_.find(block.offset_);
      if (found != blocks_.end() && found->second.expired()) blocks_.erase(found);
    }
    unhold(block.offset_, block.entry_);
  }

  void before_fork() noexcept {
    mutex_.lock();
    // On behalf of the child, so that no block goes before it can say that it holds it too. If the fork
    // fails, they stay until the program ends.
    for (const Block* block : live_) add_ref(block->offset_);
  }
  void after_fork_in_parent() noexcept { mutex_.unlock(); }
  void after_fork_in_child() noexcept {
    for (Block* block : live_) block->entry_ = hold(block->offset_);
    mutex_.unlock();
  }

 private:
  BlockRegistry() {
    // participants.cpp's handlers must stand first: they run last before a fork, and first after it in the
    // child.
    static_cast<void>(this_process_name());
    ::pthread_atfork([] { instance().before_fork(); }, [] { instance().after_fork_in_parent(); },
                     [] { instance().after_fork_in_child(); });
  }

  BlockPtr enter(Offset payload) {
    auto made = std::unique_ptr<Block>(new Block(payload));
    made->entry_ = hold(payload);
    live_.insert(made.get());
    BlockPtr block = std::move(made);
    blocks_[payload] = block;
    return block;
  }

  std::mutex mutex_;
  std::unordered_map<Offset, std::weak_ptr<const Block>> blocks_;
  std::unordered_set<Block*> live_;
};

BlockPtr Block::create(std::size_t size, BlockKind kind, Zero zero) {
  BlockPtr block = BlockRegistry::instance().adopt(allocate(size, kind, Zero::no));
  // Once it is listed as ours: if we are killed while we clear many pages, they are given back.
  if (zero == Zero::yes) clear(block->offset_);
  return block;
}

BlockPtr Block::adopt(Offset payload) { return BlockRegistry::instance().adopt(payload); }

BlockPtr Block::attach(Offset payload, BlockKind kind) {
  ensure_heap();
  return BlockRegistry::instance().attach(payload, kind);
}

bool Block::is_named(Offset payload) noexcept { return BlockRegistry::instance().is_named(payload); }

Block::~Block() { BlockRegistry::instance().forget(*this); }

NamedBlocks::NamedBlocks(std::vector<BlockPtr> blocks) noexcept : blocks_(std::move(blocks)) {
  if (!blocks_.empty()) count_named(+1);
  for (const auto& block : blocks_) block->named_.fetch_add(1);
}

NamedBlocks& NamedBlocks::operator=(NamedBlocks&& other) noexcept {
  if (this != &other) {
    clear();
    blocks_ = std::exchange(other.blocks_, {});
  }
  return *this;
}

void NamedBlocks::clear() noexcept {
  if (blocks_.empty()) return;
  for (const auto& block : blocks_) block->named_.fetch_sub(1);
  count_named(-1);
  blocks_.clear();
}

namespace {
constinit thread_local Parcel* innermost = nullptr;
}

Parcel::Parcel() noexcept : outer_(std::exchange(innermost, this)) {}
Parcel::~Parcel() { innermost = outer_; }

void Parcel::add(BlockPtr block) {
  if (innermost == nullptr) {
    throw Error(
        "a handle to shared memory (Array, Value, Lock, Queue ...) can only be packed for another process of "
        "this program: "
        "give it to a Pool, Process, Queue or Pipe");
  }
  innermost->blocks_.push_back(std::move(block));
}

}  // namespace manyhands::shm
