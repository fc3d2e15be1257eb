#pragma once
// Block: this process's hold on one block of the program's shared memory.
//
// Array, Value, Lock, Queue ... are handles: each keeps a shared_ptr<Block>, copies share it (hence
// shared_ptr), and the block's memory lives as long as any process holds it or a message under way names it.
// Handles that were copied by fork() stay good in the child.
//
// Any thread.

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "manyhands/shm/heap.hpp"
#include "manyhands/shm/participants.hpp"

namespace manyhands::shm {

class Block;
using BlockPtr = std::shared_ptr<const Block>;

class Block {
 public:
  // A new zeroed block of `size` bytes. Throws ResourceExhausted.
  static BlockPtr create(std::size_t size, BlockKind kind, Zero zero = Zero::yes);
  // Takes over one reference to `payload` that the caller has.
  static BlockPtr adopt(Offset payload);
  // This process's hold on the block at `payload`, which somebody else holds meanwhile. `kind` is checked:
  // throws Error if no such block lies there, as when a message was kept longer than its sender's block
  // lived.
  static BlockPtr attach(Offset payload, BlockKind kind);

  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  Offset offset() const noexcept { return offset_; }
  std::byte* data() const noexcept { return address_of_block(offset_); }
  std::uint64_t size() const noexcept { return header_of(offset_).size; }
  // Whether messages of this process name it that lie outside of the heap, and so have no references.
  bool is_named() const noexcept { return named_.load() != 0; }
  // The same of the block at `payload`; false if this process does not hold it.
  static bool is_named(Offset payload) noexcept;

 private:
  friend class BlockRegistry;
  friend class NamedBlocks;
  explicit Block(Offset offset) noexcept : offset_(offset) {}

  Offset offset_;
  HoldEntry entry_;
  mutable std::atomic<std::uint32_t> named_{0};  // by NamedBlocks of this process
};

// The blocks that a message outside of the heap names (a pool's calls lie in its board): held until it has
// been dealt with. One owner.
class NamedBlocks {
 public:
  NamedBlocks() = default;
  explicit NamedBlocks(std::vector<BlockPtr> blocks) noexcept;
  NamedBlocks(NamedBlocks&& other) noexcept = default;
  NamedBlocks& operator=(NamedBlocks&& other) noexcept;
  ~NamedBlocks() { clear(); }

 private:
  void clear() noexcept;

  std::vector<BlockPtr> blocks_;
};

// A handle whose whole state is one block: Lock, Value, Event ...
template <class T>
concept SharedHandle = requires(const T& handle, BlockPtr block) {
  { T::block_kind } -> std::convertible_to<BlockKind>;
  { handle.block() } -> std::same_as<const BlockPtr&>;
  T(block);
};

// The blocks that values packed on this thread named, so that whoever carries the message can keep them
// alive. Scopes nest; the innermost collects.
class Parcel {
 public:
  Parcel() noexcept;
  ~Parcel();
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;

  // Notes that the message being packed on this thread names `block`. Throws Error if no scope is open: the
  // message goes where shared memory does not reach.
  static void add(BlockPtr block);

  const std::vector<BlockPtr>& blocks() const noexcept { return blocks_; }
  std::vector<BlockPtr> take() noexcept { return std::move(blocks_); }

 private:
  std::vector<BlockPtr> blocks_;
  Parcel* outer_;
};

}  // namespace manyhands::shm
