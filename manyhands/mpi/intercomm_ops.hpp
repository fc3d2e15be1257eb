#pragma once
// The collectives between two groups: MPI's calls where the roots and counts differ from those of one group,
// and the forms by value as operations of a few steps (collective_steps.hpp).
//
// Parts of any size travel in cells of 64 bytes. The two groups know different sizes, so they cannot agree
// on another call for parts that MPI's counts are too small for; in cells 2^31 is 128 GiB, and padding is
// all it costs. Every rank makes the same calls in every step and gives or gets something, also the ones of
// which nothing is wanted: MPI matches nonblocking collectives by their number, and Open MPI 4.1 does not
// count those of 0 elements. Included by intercomm.hpp only.

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "manyhands/mpi/bcast_ops.hpp"
#include "manyhands/mpi/collective_steps.hpp"
#include "manyhands/mpi/ragged.hpp"
#include "manyhands/mpi/reduction_ops.hpp"
#include "manyhands/mpi/slots.hpp"

namespace manyhands::mpi {

// The root of a collective between two groups, on the root itself.
inline constexpr int root_here = MPI_ROOT;

namespace detail {

// Throws Error (root) unless `root` is a rank of the other group, root_here or proc_null.
void require_inter_root(const CommState& state, const char* verb, int root);
// Throws Error (count) unless there is one item for each rank of the other group.
void require_inter_items(const CommState& state, const char* verb, std::size_t items);
// The part of each rank of the other group. Throws Error (count) if there is none without rest.
MPI_Count inter_part(const CommState& state, const char* verb, MPI_Count count);

// Where gatherv, scatterv and their like of collective_calls.hpp take the ranks of one group for granted.
// Counts, offsets or sums above 2^31 are errors (count).
void inter_bcast(CommState& state, const Buffer& data, int root, Launch& launch);
void inter_gatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts, int root,
                   Launch& launch);
void inter_scatterv(CommState& state, const ConstBuffer& send, Parts parts, const Buffer& recv, int root,
                    Launch& launch);
void inter_allgatherv(CommState& state, const ConstBuffer& send, const Buffer& recv, Parts parts,
                      Launch& launch);
// `counts`: of this rank's group.
void inter_reduce_scatter(CommState& state, const ConstBuffer& send, const Buffer& recv,
                          std::span<const MPI_Count> counts, MPI_Op op, Launch& launch);

struct InterReduceScatterBy {
  std::span<const MPI_Count> counts;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    inter_reduce_scatter(state, send, recv, counts, op, launch);
  }
};

// Travels as its elements, and comes as a Ragged of them. Text does not: it comes as texts.
template <class T>
concept SideBySide = Flat<T> && !Plain<T> && !std::is_same_v<T, std::string>;

// Parts of any size, one for each rank, each in cells of its own: one at least.
class Parcels {
 public:
  using Cell = std::array<std::byte, 64>;

  // The elements of a flat range, the bytes of any other packed.
  template <class T>
  void add(const T& value) {
    if constexpr (SideBySide<T>) {
      add_bytes(std::ranges::data(value), std::ranges::size(value) * sizeof(std::ranges::range_value_t<T>));
    } else {
      ObjectMessage message(wire::never_out_of_band);
      message.pack(value);
      add_bytes(message.buffer().data, static_cast<std::size_t>(message.bytes()));
    }
  }
  // In bytes; what comes is announced here before make_room().
  std::vector<MPI_Count>& sizes() noexcept { return sizes_; }
  void make_room() {
    MPI_Count all = 0;
    for (const MPI_Count size : sizes_) all += cells_of(size);
    cells_.resize(static_cast<std::size_t>(all));
  }
  // In cells; valid until the sizes change.
  Parts parts() {
    counts_.clear();
    for (const MPI_Count size : sizes_) counts_.push_back(cells_of(size));
    return {counts_, {}};
  }
  Buffer buffer() noexcept {
    return {cells_.data(), static_cast<MPI_Count>(cells_.size()), bytes_type<Cell>()};
  }

  // All of them: a Ragged of the elements of a flat T, a vector of T otherwise.
  template <class T>
  auto take(const CommState& state) const {
    if constexpr (SideBySide<T>) {
      return elements_of<std::ranges::range_value_t<T>>(state);
    } else {
      std::vector<T> values;
      for_each([&](std::size_t rank, ByteView part) {
        values.push_back(unpack_object<T>(part, {.comm = state.comm, .source = static_cast<int>(rank)}));
      });
      return values;
    }
  }

 private:
  static MPI_Count cells_of(MPI_Count bytes) noexcept {
    return bytes / static_cast<MPI_Count>(sizeof(Cell)) + 1;
  }
  void add_bytes(const void* data, std::size_t size) {
    const std::size_t at = cells_.size();
    sizes_.push_back(static_cast<MPI_Count>(size));
    cells_.resize(at + static_cast<std::size_t>(cells_of(sizes_.back())));
    if (size > 0) std::memcpy(cells_.data() + at, data, size);
  }
  template <class Call>
  void for_each(Call call) const {
    const Cell* at = cells_.data();
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      call(i, ByteView(reinterpret_cast<const std::byte*>(at), static_cast<std::size_t>(sizes_[i])));
      at += cells_of(sizes_[i]);
    }
  }
  template <class E>
  Ragged<E> elements_of(const CommState& state) const {
    std::vector<MPI_Count> counts;
    for (const MPI_Count size : sizes_) {
      if (size % static_cast<MPI_Count>(sizeof(E)) != 0)
        fail(Errc::type, "receive", {.comm = state.comm},
             "what came is no whole number of elements: the ranks name different types");
      counts.push_back(size / static_cast<MPI_Count>(sizeof(E)));
    }
    Ragged<E> made(counts);
    for_each([&](std::size_t rank, ByteView part) {
      if (!part.empty()) std::memcpy(made[rank].data(), part.data(), part.size());
    });
    return made;
  }

  std::vector<Cell> cells_;
  std::vector<MPI_Count> sizes_;   // bytes
  std::vector<MPI_Count> counts_;  // cells
};

// ---- bcast.

template <class T>
class InterBcastPlain final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  InterBcastPlain(CommState& state, Root root, T value)
      : Steps<T>(state), root_(root.root), value_(std::move(value)) {}
  T take() override { return std::move(value_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    inter_bcast(this->state(), as_writable(value_), root_, launch);
    return true;
  }
  int root_;
  T value_;
};

template <class T>
class InterBcastFlat final : public Steps<T> {
 public:
  InterBcastFlat(CommState& state, Root root, T value)
      : Steps<T>(state),
        root_(root.root),
        value_(std::move(value)),
        size_(static_cast<MPI_Count>(std::ranges::size(value_))) {}
  T take() override { return std::move(value_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i == 0) {
      inter_bcast(this->state(), {&size_, 1, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      if (root_ >= 0) value_.resize(static_cast<std::size_t>(size_));
      const bool some = root_ != proc_null && size_ > 0;
      inter_bcast(this->state(), some ? as_writable(value_) : Buffer{&size_, 1, MPI_COUNT}, root_, launch);
    }
    return i < 2;
  }
  int root_;
  T value_;
  MPI_Count size_;
};

template <class T>
class InterBcastObject final : public Steps<T> {
 public:
  InterBcastObject(CommState& state, Root root, T value)
      : Steps<T>(state), root_(root.root), value_(std::move(value)) {
    if (root_ != root_here) return;
    ObjectMessage message(wire::never_out_of_band);
    message.pack(value_);
    const auto* const data = static_cast<const std::byte*>(message.buffer().data);
    bytes_.assign(data, data + message.bytes());
    size_ = message.bytes();
  }
  T take() override {
    if (root_ < 0) return std::move(value_);
    return unpack_object<T>(bytes_, {.comm = this->state().comm, .root = root_});
  }

 private:
  bool step(int i, Launch& launch) override {
    if (i == 0) {
      inter_bcast(this->state(), {&size_, 1, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      bytes_.resize(std::max(std::size_t{1}, static_cast<std::size_t>(size_)));
      inter_bcast(this->state(), as_writable(bytes_), root_, launch);
    }
    return i < 2;
  }
  int root_;
  T value_;
  MPI_Count size_ = 0;
  std::vector<std::byte> bytes_;
};

template <class T>
using InterBcastOf =
    std::conditional_t<Plain<T>, InterBcastPlain<T>,
                       std::conditional_t<Resizable<T>, InterBcastFlat<T>, InterBcastObject<T>>>;

// ---- gather and allgather: `root` is unset for the latter.

template <Plain T>
class InterGatherPlain final : public Steps<std::vector<T>> {
 public:
  static constexpr bool one_step = true;
  InterGatherPlain(CommState& state, Root root, const T& value)
      : Steps<std::vector<T>>(state),
        root_(root.root),
        mine_(value),
        all_(root_ == root_here || root_ == unset ? static_cast<std::size_t>(state.peers) : 0) {}
  std::vector<T> take() override { return all_.take(); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    const Buffer in = elements(all_.span().data(), 1);
    if (root_ == unset) {
      allgather(this->state(), as_buffer(mine_), in, launch);
    } else {
      gather(this->state(), as_buffer(mine_), in, root_, launch);
    }
    return true;
  }
  int root_;
  T mine_;
  Slots<T> all_;
};

// What gathering of a T gives.
template <class T>
struct InterGathering {
  using Of = std::vector<T>;
};
template <SideBySide T>
struct InterGathering<T> {
  using Of = Ragged<std::ranges::range_value_t<T>>;
};

// The steps of it, which reductions of objects take as well.
class ParcelGather {
 public:
  template <class T>
  ParcelGather(const CommState& state, int root, const T& value) : root_(root) {
    mine_.add(value);
    if (gets()) all_.sizes().resize(static_cast<std::size_t>(state.peers));
  }
  bool gets() const noexcept { return root_ == root_here || root_ == unset; }
  bool step(CommState& state, int i, Launch& launch) {
    const ConstBuffer size{mine_.sizes().data(), 1, MPI_COUNT};
    const Buffer sizes{all_.sizes().data(), 1, MPI_COUNT};
    if (i == 0 && root_ == unset) {
      allgather(state, size, sizes, launch);
    } else if (i == 0) {
      gather(state, size, sizes, root_, launch);
    } else if (i == 1) {
      all_.make_room();
      if (root_ == unset) {
        inter_allgatherv(state, mine_.buffer(), all_.buffer(), all_.parts(), launch);
      } else {
        inter_gatherv(state, mine_.buffer(), all_.buffer(), all_.parts(), root_, launch);
      }
    }
    return i < 2;
  }
  const Parcels& all() const noexcept { return all_; }

 private:
  int root_;
  Parcels mine_;
  Parcels all_;
};

template <class T>
class InterGatherParts final : public Steps<typename InterGathering<T>::Of> {
 public:
  InterGatherParts(CommState& state, Root root, const T& value)
      : Steps<typename InterGathering<T>::Of>(state), parts_(state, root.root, value) {}
  typename InterGathering<T>::Of take() override { return parts_.all().template take<T>(this->state()); }

 private:
  bool step(int i, Launch& launch) override { return parts_.step(this->state(), i, launch); }
  ParcelGather parts_;
};

template <class T>
struct InterGatherValue {
  using Op = InterGatherParts<T>;
};
template <Plain T>
struct InterGatherValue<T> {
  using Op = InterGatherPlain<T>;
};
template <class T>
using InterGatherOf = typename InterGatherValue<T>::Op;

// ---- scatter.

template <Plain T>
class InterScatterPlain final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  template <class Items>
  InterScatterPlain(CommState& state, Root root, const Items& items)
      : Steps<T>(state), root_(root.root), items_(0) {
    if (root_ != root_here) return;
    require_inter_items(state, "scatter", std::ranges::size(items));
    items_ = Slots<T>::copy_of(items);
  }
  T take() override { return mine_; }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    const T* const out = items_.span().data();
    scatter(this->state(), elements(out, 1), as_writable(mine_), root_, launch);
    return true;
  }
  int root_;
  Slots<T> items_;  // on the root
  T mine_{};
};

template <class Item>
struct InterScattering {
  using Of = Item;
};
template <SideBySide Item>
struct InterScattering<Item> {
  using Of = std::vector<std::ranges::range_value_t<Item>>;
};

template <class Item>
class InterScatterParts final : public Steps<typename InterScattering<Item>::Of> {
 public:
  using Gets = typename InterScattering<Item>::Of;

  template <class Items>
  InterScatterParts(CommState& state, Root root, const Items& items)
      : Steps<Gets>(state), root_(root.root), mine_() {
    if (root_ == root_here) {
      if constexpr (requires { items.parts(); }) {  // Ragged
        require_inter_items(state, "scatter", items.parts());
        for (std::size_t i = 0; i < items.parts(); ++i) out_.add(items[i]);
      } else {
        require_inter_items(state, "scatter", std::ranges::size(items));
        for (const auto& item : items) out_.add(item);
      }
    }
    mine_.sizes().resize(1);
  }
  Gets take() override {
    if (root_ < 0) return Gets{};
    auto all = mine_.template take<Item>(this->state());
    if constexpr (SideBySide<Item>) {
      return std::move(all.values());
    } else {
      return std::move(all[0]);
    }
  }

 private:
  bool step(int i, Launch& launch) override {
    if (i == 0) {
      scatter(this->state(), {out_.sizes().data(), 1, MPI_COUNT}, {mine_.sizes().data(), 1, MPI_COUNT}, root_,
              launch);
    } else if (i == 1) {
      mine_.make_room();
      inter_scatterv(this->state(), out_.buffer(), out_.parts(), mine_.buffer(), root_, launch);
    }
    return i < 2;
  }
  int root_;
  Parcels out_;  // on the root
  Parcels mine_;
};

template <class Item>
struct InterScatterItem {
  using Op = InterScatterParts<Item>;
};
template <Plain Item>
struct InterScatterItem<Item> {
  using Op = InterScatterPlain<Item>;
};
template <class Items>
using InterScatterOf = typename InterScatterItem<typename ItemsOf<Items>::Item>::Op;

// ---- alltoall.

template <Plain T>
class InterAlltoallPlain final : public Steps<std::vector<T>> {
 public:
  static constexpr bool one_step = true;
  template <class Items>
  InterAlltoallPlain(CommState& state, const Items& items)
      : Steps<std::vector<T>>(state), sent_(Slots<T>::copy_of(items)), all_(std::ranges::size(items)) {
    require_inter_items(state, "alltoall", std::ranges::size(items));
  }
  std::vector<T> take() override { return all_.take(); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    const T* const out = sent_.span().data();
    alltoall(this->state(), elements(out, 1), elements(all_.span().data(), 1), launch);
    return true;
  }
  Slots<T> sent_;
  Slots<T> all_;
};

template <class Items, class Item>
class InterAlltoallParts final : public Steps<Items> {
 public:
  InterAlltoallParts(CommState& state, const Items& items) : Steps<Items>(state) {
    if constexpr (requires { items.parts(); }) {
      require_inter_items(state, "alltoall", items.parts());
      for (std::size_t i = 0; i < items.parts(); ++i) out_.add(items[i]);
    } else {
      require_inter_items(state, "alltoall", items.size());
      for (const auto& item : items) out_.add(item);
    }
    in_.sizes().resize(out_.sizes().size());
  }
  Items take() override {
    auto all = in_.template take<Item>(this->state());
    if constexpr (std::is_same_v<Items, decltype(all)>) {
      return all;
    } else {
      return all.to_vectors();
    }
  }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state();
    if (i == 0) {
      alltoall(state, {out_.sizes().data(), 1, MPI_COUNT}, {in_.sizes().data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      in_.make_room();
      alltoallv(state, out_.buffer(), out_.parts(), in_.buffer(), in_.parts(), Width::narrow, launch);
    }
    return i < 2;
  }
  Parcels out_;
  Parcels in_;
};

template <class Items>
struct InterAlltoallItems {
  static_assert(Flat<Items>, "alltoall takes a range with one item for each rank of the other group");
  using Op = InterAlltoallPlain<std::remove_cv_t<std::ranges::range_value_t<Items>>>;
};
template <class T>
struct InterAlltoallItems<std::vector<T>> {
  using Op = InterAlltoallParts<std::vector<T>, T>;
};
template <Plain T>
struct InterAlltoallItems<std::vector<T>> {
  using Op = InterAlltoallPlain<T>;
};
template <class T>
struct InterAlltoallItems<Ragged<T>> {
  using Op = InterAlltoallParts<Ragged<T>, std::vector<T>>;
};
template <class Items>
using InterAlltoallOf = typename InterAlltoallItems<Items>::Op;

// ---- Reductions: `root` is unset for those of all.

template <class T, class F>
class InterReduceDirect final : public Steps<T> {
 public:
  static constexpr bool one_step = true;
  InterReduceDirect(CommState& state, Root root, const T& value, const F& op)
      : Steps<T>(state), root_(root.root), op_(op), handle_(op_handle<ElementOf<T>>(op_)), mine_(value) {
    if constexpr (Resizable<T>) result_.resize(std::ranges::size(mine_));
  }
  T take() override {
    if (root_ != root_here && root_ != unset) return T{};
    return std::move(result_);
  }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    const ConstBuffer from = counted(mine_, handle_.type());
    const Buffer to = counted_writable(result_, handle_.type());
    if (root_ == unset) {
      allreduce(this->state(), from, to, handle_.op(), launch);
    } else {
      reduce(this->state(), from, to, handle_.op(), root_, launch);
    }
    return true;
  }
  int root_;
  F op_;
  OpHandle handle_;
  T mine_;
  T result_{};
};

// All are gathered where the result is wanted, and combined in the order of the ranks.
template <class T, class F>
class InterReduceObject final : public Steps<T> {
 public:
  InterReduceObject(CommState& state, Root root, const T& value, const F& op)
      : Steps<T>(state), op_(op), parts_(state, root.root, value) {
    static_assert(Combines<T, F>, "an operation is called as f(const T&, const T&) and returns a T");
  }
  T take() override {
    if (!parts_.gets()) return T{};
    std::vector<T> values = parts_.all().template take<T>(this->state());
    T result = std::move(values[0]);
    for (std::size_t i = 1; i < values.size(); ++i)
      result = op_(std::as_const(result), std::as_const(values[i]));
    return result;
  }

 private:
  bool step(int i, Launch& launch) override { return parts_.step(this->state(), i, launch); }
  F op_;
  ParcelGather parts_;
};

template <class T, class F>
using InterReductionOf = std::conditional_t<Direct<T> && !std::is_same_v<T, std::string>,
                                            InterReduceDirect<T, F>, InterReduceObject<T, WholeOp<T, F>>>;

}  // namespace detail
}  // namespace manyhands::mpi
