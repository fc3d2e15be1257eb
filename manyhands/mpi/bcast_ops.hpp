#pragma once
// bcast by value: plain, flat of any length, and objects. Included by collectives.hpp only.

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "manyhands/mpi/collective_steps.hpp"

namespace manyhands::mpi::detail {

template <class T>
class BcastPlain final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  BcastPlain(CommState& state, Root root, T value)
      : Steps<T>(state), root_(root.root), value_(std::move(value)) {}
  T take() override { return std::move(value_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    bcast(this->state(), as_writable(value_), root_, launch);
    return true;
  }
  int root_;
  T value_;
};

template <class T>
class BcastFlat final : public Steps<T> {
 public:
  BcastFlat(CommState& state, Root root, T value)
      : Steps<T>(state),
        root_(root.root),
        value_(std::move(value)),
        size_(static_cast<MPI_Count>(std::ranges::size(value_))) {}
  T take() override { return std::move(value_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i == 0) {
      bcast(this->state(), {&size_, 1, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      if (!this->is(root_)) value_.resize(static_cast<std::size_t>(size_));
      bcast(this->state(), as_writable(value_), root_, launch);
    }
    return i < 2;
  }
  int root_;
  T value_;
  MPI_Count size_;
};

// The first bytes of an object go together with its size.
class BcastBytes {
 public:
  static constexpr std::size_t head = 1000;
  void set(ConstBuffer message) {
    first_.size = message.count;
    const auto* const data = static_cast<const std::byte*>(message.data);
    std::memcpy(first_.bytes, data, std::min(head, static_cast<std::size_t>(message.count)));
    bytes_.assign(data, data + message.count);
  }
  bool step(CommState& state, int root, int i, Launch& launch) {
    if (i == 0) {
      bcast(state, {&first_, sizeof(First), MPI_BYTE}, root, launch);
      return true;
    }
    const auto size = static_cast<std::size_t>(first_.size);
    if (i == 1 && state.rank != root) {
      bytes_.resize(size);
      std::memcpy(bytes_.data(), first_.bytes, std::min(head, size));
    }
    if (i > 1 || size <= head) return false;
    bcast(state, {bytes_.data() + head, static_cast<MPI_Count>(size - head), MPI_BYTE}, root, launch);
    return true;
  }
  ByteView bytes() const noexcept { return bytes_; }

 private:
  struct First {
    MPI_Count size;
    std::byte bytes[head];
  };
  First first_{};
  std::vector<std::byte> bytes_;
};

template <class T>
class BcastObject final : public Steps<T> {
 public:
  BcastObject(CommState& state, Root root, T value) : Steps<T>(state), root_(root.root) {
    if (!this->is(root_)) return;
    ObjectMessage message(wire::never_out_of_band);
    message.pack(value);
    bytes_.set(message.buffer());
    value_.emplace(std::move(value));
  }
  T take() override {
    if (!value_)
      value_.emplace(unpack_object<T>(bytes_.bytes(), {.comm = this->state().comm, .root = root_}));
    return std::move(*value_);
  }

 private:
  bool step(int i, Launch& launch) override { return bytes_.step(this->state(), root_, i, launch); }
  int root_;
  BcastBytes bytes_;
  std::optional<T> value_;
};

template <class T>
using BcastOf = std::conditional_t<Plain<T>, BcastPlain<T>,
                                   std::conditional_t<Resizable<T>, BcastFlat<T>, BcastObject<T>>>;

}  // namespace manyhands::mpi::detail
