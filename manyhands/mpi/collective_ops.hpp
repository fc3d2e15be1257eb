#pragma once
// The collectives by value, as operations of a few steps that run through at once or one after the other in a
// request.
//
// Each step starts at most one collective of MPI; sizes are exchanged in one step where the next one needs
// them. Included by collectives.hpp only.

#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "manyhands/mpi/collective_calls.hpp"
#include "manyhands/mpi/large.hpp"
#include "manyhands/mpi/object.hpp"
#include "manyhands/mpi/ragged.hpp"

namespace manyhands::mpi {

// The rank that a collective of one to all, or all to one, starts from or ends at.
struct Root {
  int root = 0;
};

namespace detail {

// ---- What the operations share.

template <class R>
class Steps : public Yields<R> {
 public:
  using Result = R;
  explicit Steps(CommState& state) : state_(state) {}

  // All steps at once, blocking.
  R run() {
    for (int i = 0;; ++i) {
      Launch launch;
      if (!step(i, launch)) return this->take();
    }
  }
  // One step after the other.
  bool advance(MPI_Request& native, MPI_Status&) override {
    for (;;) {
      if (waiting_ < launch_.further.size()) {
        native = launch_.further[waiting_++];
        return false;
      }
      launch_ = Launch(How::nonblocking);
      waiting_ = 0;
      if (!step(next_++, launch_)) return true;
      native = launch_.request;
      if (native != MPI_REQUEST_NULL) return false;
    }
  }

 protected:
  // Starts step i; false if there is none, and all is done. All before is complete when it is called.
  virtual bool step(int i, Launch& launch) = 0;
  bool is(int root) const noexcept { return state_.rank == root; }
  std::size_t ranks() const noexcept { return static_cast<std::size_t>(state_.size); }
  CommState& state_;

 private:
  Launch launch_;
  std::size_t waiting_ = 0;  // the next of launch_.further
  int next_ = 0;
};

// A root that is no rank is an error on every rank, before anything is sent.
void require_root(CommState& state, const char* verb, int root);
// Throws Error (count) unless there is one item for each rank.
void require_items(CommState& state, const char* verb, std::size_t items);
// Throws Error (count) unless there are size() counts, which add up to `total`.
void require_counts(CommState& state, const char* verb, std::span<const MPI_Count> counts, MPI_Count total);
// Lengths of `parts` parts of `count` elements that differ by one at most, the longer ones first.
std::vector<MPI_Count> near_equal(MPI_Count count, int parts);
// Whether parts that sum up to `total` elements need the wide form.
inline Width width_of(MPI_Count total) noexcept { return total > large_limit ? Width::wide : Width::narrow; }

template <Plain T>
Buffer elements(T* data, MPI_Count count) noexcept {
  return {data, count * Unit<T>::per_element, Unit<T>::type()};
}
template <Plain T>
ConstBuffer elements(const T* data, MPI_Count count) noexcept {
  return {data, count * Unit<T>::per_element, Unit<T>::type()};
}

// Counts in MPI elements of parts in elements of T.
template <Plain T>
std::vector<MPI_Count> in_units(std::span<const MPI_Count> counts) {
  std::vector<MPI_Count> units(counts.begin(), counts.end());
  for (MPI_Count& count : units) count *= Unit<T>::per_element;
  return units;
}

inline MPI_Count sum(std::span<const MPI_Count> counts) {
  MPI_Count total = 0;
  for (const MPI_Count count : counts) total += count;
  return total;
}

// A sequence of packed objects, one for each rank.
class PackedParts {
 public:
  template <class T>
  void add(const T& value) {
    ObjectMessage message(wire::never_out_of_band);
    message.pack(value);
    const auto* const data = static_cast<const std::byte*>(message.buffer().data);
    bytes_.insert(bytes_.end(), data, data + message.bytes());
    counts_.push_back(message.bytes());
  }
  std::vector<std::byte>& bytes() noexcept { return bytes_; }
  std::vector<MPI_Count>& counts() noexcept { return counts_; }
  void make_room() { bytes_.resize(static_cast<std::size_t>(sum(counts_))); }
  template <class T>
  std::vector<T> unpack(CommState& state) const {
    std::vector<T> values;
    std::size_t at = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const auto size = static_cast<std::size_t>(counts_[i]);
      values.push_back(unpack_object<T>(ByteView(bytes_).subspan(at, size),
                                        {.comm = state.comm, .source = static_cast<int>(i)}));
      at += size;
    }
    return values;
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<MPI_Count> counts_;
};

// ---- bcast.

template <class T>
class BcastPlain final : public Steps<T> {
 public:
  BcastPlain(CommState& state, Root root, T value)
      : Steps<T>(state), root_(root.root), value_(std::move(value)) {}
  T take() override { return std::move(value_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    bcast(this->state_, as_writable(value_), root_, launch);
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
      bcast(this->state_, {&size_, 1, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      if (!this->is(root_)) value_.resize(static_cast<std::size_t>(size_));
      bcast(this->state_, as_writable(value_), root_, launch);
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
    if (!value_) value_.emplace(unpack_object<T>(bytes_.bytes(), {.comm = this->state_.comm, .root = root_}));
    return std::move(*value_);
  }

 private:
  bool step(int i, Launch& launch) override { return bytes_.step(this->state_, root_, i, launch); }
  int root_;
  BcastBytes bytes_;
  std::optional<T> value_;
};

template <class T>
using BcastOf = std::conditional_t<Plain<T>, BcastPlain<T>,
                                   std::conditional_t<Resizable<T>, BcastFlat<T>, BcastObject<T>>>;

// ---- scatter.

template <Plain T>
class ScatterPlain final : public Steps<T> {
 public:
  template <class Items>
  ScatterPlain(CommState& state, Root root, const Items& items) : Steps<T>(state), root_(root.root) {
    require_root(state, "scatter", root_);
    if (!this->is(root_)) return;
    require_items(state, "scatter", std::ranges::size(items));
    for (const T& item : items) items_.push_back({item});
  }
  T take() override { return mine_; }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    scatter(this->state_, elements(std::as_const(items_).data(), 1), as_writable(mine_), root_, launch);
    return true;
  }
  int root_;
  std::vector<std::array<T, 1>>
      items_;  // on the root; in arrays, since a vector<bool> has no memory to send from
  T mine_{};
};

// Parts of any length: {this rank's length, the length of all} first, then the parts.
template <Plain T>
class ScatterParts : public Steps<std::vector<T>> {
 public:
  ScatterParts(CommState& state, Root root, std::vector<T> values, std::vector<MPI_Count> counts)
      : Steps<std::vector<T>>(state),
        root_(root.root),
        values_(std::move(values)),
        counts_(std::move(counts)) {
    if (!this->is(root_)) return;
    const auto all = static_cast<MPI_Count>(values_.size());
    for (const MPI_Count count : counts_) announced_.insert(announced_.end(), {count, all});
  }
  ScatterParts(CommState& state, Root root, Ragged<T> parts)
      : ScatterParts(state, root, std::move(parts.values()), parts.counts()) {}
  std::vector<T> take() override { return std::move(mine_); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state_;
    if (i == 0) {
      scatter(state, {announced_.data(), 2, MPI_COUNT}, {size_, 2, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      mine_.resize(static_cast<std::size_t>(size_[0]));
      units_ = in_units<T>(counts_);
      scatterv(state, elements(std::as_const(values_).data(), 0), {units_, {}},
               elements(mine_.data(), size_[0]), root_, width_of(size_[1] * Unit<T>::per_element), launch);
    }
    return i < 2;
  }
  int root_;
  std::vector<T> values_;             // on the root
  std::vector<MPI_Count> counts_;     // on the root
  std::vector<MPI_Count> announced_;  // on the root
  std::vector<MPI_Count> units_;
  MPI_Count size_[2] = {};
  std::vector<T> mine_;
};

template <Plain T>
class ScatterRagged final : public ScatterParts<T> {
 public:
  template <class Items>
  ScatterRagged(CommState& state, Root root, const Items& items)
      : ScatterParts<T>(state, root, prepare(state, root, items)) {}

 private:
  template <class Items>
  static Ragged<T> prepare(CommState& state, Root root, const Items& items) {
    require_root(state, "scatter", root.root);
    if (state.rank != root.root) return {};
    if constexpr (std::is_same_v<Items, Ragged<T>>) {
      require_items(state, "scatter", items.parts());
      return items;
    } else {
      require_items(state, "scatter", std::ranges::size(items));
      Ragged<T> parts;
      for (const auto& item : items) parts.push_back({std::ranges::data(item), std::ranges::size(item)});
      return parts;
    }
  }
};

template <Plain T>
class ScatterRange final : public ScatterParts<T> {
 public:
  template <class Range>
  ScatterRange(CommState& state, Root root, const Range& range)
      : ScatterParts<T>((require_root(state, "scatter_range", root.root), state), root,
                        values(state, root, range),
                        near_equal(static_cast<MPI_Count>(std::ranges::size(range)), state.size)) {}

 private:
  template <class Range>
  static std::vector<T> values(CommState& state, Root root, const Range& range) {
    if (state.rank != root.root) return {};
    return std::vector<T>(std::ranges::begin(range), std::ranges::end(range));
  }
};

template <class T>
class ScatterObject final : public Steps<T> {
 public:
  template <class Items>
  ScatterObject(CommState& state, Root root, const Items& items) : Steps<T>(state), root_(root.root) {
    require_root(state, "scatter", root_);
    if (!this->is(root_)) return;
    require_items(state, "scatter", std::ranges::size(items));
    for (const auto& item : items) parts_.add(item);
    const MPI_Count all = sum(parts_.counts());
    for (const MPI_Count count : parts_.counts()) announced_.insert(announced_.end(), {count, all});
  }
  T take() override { return unpack_object<T>(mine_, {.comm = this->state_.comm, .root = root_}); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state_;
    if (i == 0) {
      scatter(state, {announced_.data(), 2, MPI_COUNT}, {size_, 2, MPI_COUNT}, root_, launch);
    } else if (i == 1) {
      mine_.resize(static_cast<std::size_t>(size_[0]));
      scatterv(state, {parts_.bytes().data(), 0, MPI_BYTE}, {parts_.counts(), {}},
               {mine_.data(), size_[0], MPI_BYTE}, root_, width_of(size_[1]), launch);
    }
    return i < 2;
  }
  int root_;
  PackedParts parts_;  // on the root
  std::vector<MPI_Count> announced_;
  MPI_Count size_[2] = {};
  std::vector<std::byte> mine_;
};

template <class Items>
struct ItemsOf {
  using Item = std::ranges::range_value_t<Items>;
};
template <class T>
struct ItemsOf<Ragged<T>> {
  using Item = std::vector<T>;
};
template <class Item>
struct ScatterItem {
  using Op = ScatterObject<Item>;
};
template <Plain Item>
struct ScatterItem<Item> {
  using Op = ScatterPlain<Item>;
};
template <class Item>
  requires(Flat<Item> && !Plain<Item> && !std::is_same_v<Item, std::string>)
struct ScatterItem<Item> {
  using Op = ScatterRagged<std::ranges::range_value_t<Item>>;
};
template <class Items>
using ScatterOf = typename ScatterItem<typename ItemsOf<Items>::Item>::Op;

// ---- gather and allgather.

enum class Gathered { root, all };

template <Plain T, Gathered G>
class GatherPlain final : public Steps<std::vector<T>> {
 public:
  GatherPlain(CommState& state, Root root, const T& value)
      : Steps<std::vector<T>>(state), root_(root.root), mine_(value) {
    require_root(state, "gather", root_);
    if (G == Gathered::all || this->is(root_)) all_.resize(this->ranks());
  }
  GatherPlain(CommState& state, const T& value) : GatherPlain(state, Root{}, value) {}
  std::vector<T> take() override {
    if constexpr (std::is_same_v<T, bool>) {
      return {all_.begin(), all_.end()};
    } else {
      return std::move(all_);
    }
  }

 private:
  // A vector<bool> has no memory to gather into; MPI's bool is a byte.
  using Element = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    if constexpr (G == Gathered::all) {
      allgather(this->state_, as_buffer(mine_), elements(all_.data(), 1), launch);
    } else {
      gather(this->state_, as_buffer(mine_), elements(all_.data(), 1), root_, launch);
    }
    return true;
  }
  int root_;
  Element mine_;
  std::vector<Element> all_;
};
// Parts of any length: all ranks learn all lengths, so that all know the form in which the parts go.
template <Plain T, Gathered G>
class GatherFlat final : public Steps<Ragged<T>> {
 public:
  template <class Range>
  GatherFlat(CommState& state, Root root, const Range& range)
      : Steps<Ragged<T>>(state),
        root_(root.root),
        mine_(std::ranges::begin(range), std::ranges::end(range)),
        size_(static_cast<MPI_Count>(mine_.size())),
        counts_(this->ranks()) {
    require_root(state, "gather", root_);
  }
  template <class Range>
  GatherFlat(CommState& state, const Range& range) : GatherFlat(state, Root{}, range) {}
  Ragged<T> take() override { return std::move(all_); }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state_;
    if (i == 0) {
      allgather(state, {&size_, 1, MPI_COUNT}, {counts_.data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      units_ = in_units<T>(counts_);
      const ConstBuffer send = elements(std::as_const(mine_).data(), size_);
      if (G == Gathered::all || this->is(root_)) all_ = Ragged<T>(counts_);
      const Buffer recv = elements(all_.values().data(), 0);
      if constexpr (G == Gathered::all) {
        allgatherv(state, send, recv, {units_, {}}, launch);
      } else {
        gatherv(state, send, recv, {units_, {}}, root_, width_of(sum(units_)), launch);
      }
    }
    return i < 2;
  }
  int root_;
  std::vector<T> mine_;
  MPI_Count size_;
  std::vector<MPI_Count> counts_;
  std::vector<MPI_Count> units_;
  Ragged<T> all_;
};

template <class T, Gathered G>
class GatherObject final : public Steps<std::vector<T>> {
 public:
  GatherObject(CommState& state, Root root, const T& value) : Steps<std::vector<T>>(state), root_(root.root) {
    require_root(state, "gather", root_);
    mine_.add(value);
    all_.counts().resize(this->ranks());
  }
  GatherObject(CommState& state, const T& value) : GatherObject(state, Root{}, value) {}
  std::vector<T> take() override {
    if (G == Gathered::root && !this->is(root_)) return {};
    return all_.template unpack<T>(this->state_);
  }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state_;
    const ConstBuffer send{mine_.bytes().data(), static_cast<MPI_Count>(mine_.bytes().size()), MPI_BYTE};
    if (i == 0) {
      allgather(state, {mine_.counts().data(), 1, MPI_COUNT}, {all_.counts().data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      if (G == Gathered::all || this->is(root_)) all_.make_room();
      const Buffer recv{all_.bytes().data(), 0, MPI_BYTE};
      if constexpr (G == Gathered::all) {
        allgatherv(state, send, recv, {all_.counts(), {}}, launch);
      } else {
        gatherv(state, send, recv, {all_.counts(), {}}, root_, width_of(sum(all_.counts())), launch);
      }
    }
    return i < 2;
  }
  int root_;
  PackedParts mine_;
  PackedParts all_;
};

template <class T, Gathered G>
struct GatherValue {
  using Op = GatherObject<T, G>;
};
template <Plain T, Gathered G>
struct GatherValue<T, G> {
  using Op = GatherPlain<T, G>;
};
// Text is gathered as texts: its characters side by side would be of no use.
template <class T, Gathered G>
  requires(Flat<T> && !Plain<T> && !std::is_same_v<T, std::string>)
struct GatherValue<T, G> {
  using Op = GatherFlat<std::ranges::range_value_t<T>, G>;
};
template <class T>
using GatherOf = typename GatherValue<T, Gathered::root>::Op;
template <class T>
using AllgatherOf = typename GatherValue<T, Gathered::all>::Op;

// ---- alltoall.

template <Plain T>
class AlltoallPlain final : public Steps<std::vector<T>> {
 public:
  AlltoallPlain(CommState& state, const std::vector<T>& items) : Steps<std::vector<T>>(state), sent_(items) {
    require_items(state, "alltoall", items.size());
    all_.resize(items.size());
  }
  std::vector<T> take() override { return std::move(all_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    alltoall(this->state_, elements(std::as_const(sent_).data(), 1), elements(all_.data(), 1), launch);
    return true;
  }
  std::vector<T> sent_;
  std::vector<T> all_;
};

// Parts of any length. With its length each rank sends how much it sends in all: if that is so much on one of
// them that some rank could receive more than MPI can count, all take the wide form.
template <Plain T>
class AlltoallParts {
 public:
  AlltoallParts(CommState& state, Ragged<T> sent) : state_(state), sent_(std::move(sent)) {
    require_items(state, "alltoall", sent_.parts());
    const auto all = static_cast<MPI_Count>(sent_.values().size());
    for (const MPI_Count count : sent_.counts()) announced_.insert(announced_.end(), {count, all});
    heard_.resize(announced_.size());
  }
  bool step(int i, Launch& launch) {
    if (i == 0) {
      alltoall(state_, {announced_.data(), 2, MPI_COUNT}, {heard_.data(), 2, MPI_COUNT}, launch);
    } else if (i == 1) {
      std::vector<MPI_Count> counts;
      MPI_Count most = 0;
      for (std::size_t rank = 0; rank < heard_.size() / 2; ++rank) {
        counts.push_back(heard_[2 * rank]);
        most = std::max(most, heard_[2 * rank + 1]);
      }
      got_ = Ragged<T>(counts);
      send_units_ = in_units<T>(sent_.counts());
      recv_units_ = in_units<T>(counts);
      const Width width = width_of(most * Unit<T>::per_element * state_.size);
      alltoallv(state_, elements(std::as_const(sent_.values()).data(), 0), {send_units_, {}},
                elements(got_.values().data(), 0), {recv_units_, {}}, width, launch);
    }
    return i < 2;
  }
  Ragged<T>& got() noexcept { return got_; }

 private:
  CommState& state_;
  Ragged<T> sent_;
  Ragged<T> got_;
  std::vector<MPI_Count> announced_;
  std::vector<MPI_Count> heard_;
  std::vector<MPI_Count> send_units_;
  std::vector<MPI_Count> recv_units_;
};

template <class Items, Plain T>
class AlltoallRagged final : public Steps<Items> {
 public:
  AlltoallRagged(CommState& state, const Items& items)
      : Steps<Items>(state), parts_(state, Ragged<T>(items)) {}
  Items take() override {
    if constexpr (std::is_same_v<Items, Ragged<T>>) {
      return std::move(parts_.got());
    } else {
      return parts_.got().to_vectors();
    }
  }

 private:
  bool step(int i, Launch& launch) override { return parts_.step(i, launch); }
  AlltoallParts<T> parts_;
};

template <class T>
class AlltoallObject final : public Steps<std::vector<T>> {
 public:
  AlltoallObject(CommState& state, const std::vector<T>& items)
      : Steps<std::vector<T>>(state), parts_(state, pack(items)) {}
  std::vector<T> take() override {
    std::vector<T> values;
    const Ragged<std::byte>& got = parts_.got();
    for (std::size_t i = 0; i < got.parts(); ++i)
      values.push_back(unpack_object<T>(got[i], {.comm = this->state_.comm, .source = static_cast<int>(i)}));
    return values;
  }

 private:
  static Ragged<std::byte> pack(const std::vector<T>& items) {
    Ragged<std::byte> parts;
    for (const T& item : items) {
      PackedParts one;
      one.add(item);
      parts.push_back(one.bytes());
    }
    return parts;
  }
  bool step(int i, Launch& launch) override { return parts_.step(i, launch); }
  AlltoallParts<std::byte> parts_;
};

template <class Items>
struct AlltoallItems {
  static_assert(sizeof(Items) == 0, "alltoall takes a std::vector with one item for each rank, or a Ragged");
};
template <class T>
struct AlltoallItems<std::vector<T>> {
  using Op = AlltoallObject<T>;
};
template <Plain T>
  requires(!std::is_same_v<T, bool>)
struct AlltoallItems<std::vector<T>> {
  using Op = AlltoallPlain<T>;
};
template <Plain T>
  requires(!std::is_same_v<T, bool>)
struct AlltoallItems<std::vector<std::vector<T>>> {
  using Op = AlltoallRagged<std::vector<std::vector<T>>, T>;
};
template <class T>
struct AlltoallItems<Ragged<T>> {
  using Op = AlltoallRagged<Ragged<T>, T>;
};
template <class Items>
using AlltoallOf = typename AlltoallItems<Items>::Op;

// ---- Reductions.

template <class R>
struct ElementIn {
  using Type = R;
};
template <Flat R>
  requires(!Plain<R> || std::ranges::range<R>)
struct ElementIn<R> {
  using Type = std::ranges::range_value_t<R>;
};
// What an operation combines in an R: the elements of a range, the value itself otherwise.
template <class R>
using ElementOf = std::remove_cv_t<typename ElementIn<std::remove_cvref_t<R>>::Type>;

template <class S>
ConstBuffer counted(const S& data, MPI_Datatype type) {
  if constexpr (std::is_same_v<S, InPlace>) {
    return in_place_buffer();
  } else if constexpr (Flat<S>) {
    return {std::ranges::data(data), static_cast<MPI_Count>(std::ranges::size(data)), type};
  } else {
    static_assert(Plain<S>, "reductions take plain values and flat ranges");
    return {&data, 1, type};
  }
}
template <class R>
Buffer counted_writable(R& data, MPI_Datatype type) {
  const Buffer buffer = as_writable(data);
  return {buffer.data, counted(std::as_const(data), type).count, type};
}

// A reduction into memory under way, with the operation that it uses.
template <class F, Plain T>
class ReductionInto final : public Yields<void> {
 public:
  explicit ReductionInto(const F& op) : op_(op), handle_(op_handle<T>(op_)), launch_(How::nonblocking) {}
  bool advance(MPI_Request& native, MPI_Status&) override {
    if (next_ == launch_.further.size()) return true;
    native = launch_.further[next_++];
    return false;
  }
  const OpHandle& handle() const noexcept { return handle_; }
  Launch& launch() noexcept { return launch_; }

 private:
  F op_;
  OpHandle handle_;
  Launch launch_;
  std::size_t next_ = 0;
};

// reduce and reduce_scatter as calls like allreduce, which has no argument of its own.
struct ReduceTo {
  int root;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    reduce(state, send, recv, op, root, launch);
  }
};
struct ReduceScatterBy {
  std::span<const MPI_Count> counts;
  void operator()(CommState& state, const ConstBuffer& send, const Buffer& recv, MPI_Op op,
                  Launch& launch) const {
    reduce_scatter(state, send, recv, counts, op, launch);
  }
};

enum class Kind { reduce, allreduce, scan, exscan };

template <class T, class F>
class ReduceDirect final : public Steps<T> {
 public:
  ReduceDirect(CommState& state, Kind kind, Root root, const T& value, const F& op)
      : Steps<T>(state),
        kind_(kind),
        root_(root.root),
        op_(op),
        handle_(op_handle<ElementOf<T>>(op_)),
        mine_(value) {
    if (kind == Kind::reduce) require_root(state, "reduce", root_);
    const bool gets = kind != Kind::reduce || this->is(root_);
    if constexpr (Resizable<T>) {
      if (gets) result_.resize(std::ranges::size(mine_));
    }
    static_cast<void>(gets);
  }
  T take() override { return std::move(result_); }

 private:
  bool step(int i, Launch& launch) override {
    if (i > 0) return false;
    CommState& state = this->state_;
    const ConstBuffer from = counted(mine_, handle_.type());
    Buffer to = counted_writable(result_, handle_.type());
    to.count = from.count;
    switch (kind_) {
      case Kind::reduce:
        reduce(state, from, to, handle_.op(), root_, launch);
        break;
      case Kind::allreduce:
        allreduce(state, from, to, handle_.op(), launch);
        break;
      case Kind::scan:
        scan(state, from, to, handle_.op(), launch);
        break;
      case Kind::exscan:
        exscan(state, from, to, handle_.op(), launch);
        break;
    }
    return true;
  }
  Kind kind_;
  int root_;
  F op_;
  OpHandle handle_;
  T mine_;
  T result_{};
};

// Objects, and text as a whole: all are gathered and combined in the order of the ranks, where the result is
// wanted.
template <class T, class F>
class ReduceObject final : public Steps<T> {
 public:
  ReduceObject(CommState& state, Kind kind, Root root, const T& value, const F& op)
      : Steps<T>(state), kind_(kind), root_(root.root), op_(op) {
    static_assert(Combines<T, F>, "an operation is called as f(const T&, const T&) and returns a T");
    if (kind == Kind::reduce) require_root(state, "reduce", root_);
    mine_.add(value);
    all_.counts().resize(this->ranks());
  }
  T take() override {
    const auto ranks = this->ranks();
    const auto me = static_cast<std::size_t>(this->state_.rank);
    if (kind_ == Kind::reduce && !this->is(root_)) return T{};
    const std::size_t last = kind_ == Kind::scan ? me + 1 : kind_ == Kind::exscan ? me : ranks;
    if (last == 0) return T{};
    std::vector<T> values = all_.template unpack<T>(this->state_);
    T result = std::move(values[0]);
    for (std::size_t i = 1; i < last; ++i) result = op_(std::as_const(result), std::as_const(values[i]));
    return result;
  }

 private:
  bool step(int i, Launch& launch) override {
    CommState& state = this->state_;
    const ConstBuffer send{mine_.bytes().data(), static_cast<MPI_Count>(mine_.bytes().size()), MPI_BYTE};
    if (i == 0) {
      allgather(state, {mine_.counts().data(), 1, MPI_COUNT}, {all_.counts().data(), 1, MPI_COUNT}, launch);
    } else if (i == 1) {
      if (kind_ != Kind::reduce || this->is(root_)) all_.make_room();
      const Buffer recv{all_.bytes().data(), 0, MPI_BYTE};
      if (kind_ == Kind::reduce) {
        gatherv(state, send, recv, {all_.counts(), {}}, root_, width_of(sum(all_.counts())), launch);
      } else {
        allgatherv(state, send, recv, {all_.counts(), {}}, launch);
      }
    }
    return i < 2;
  }
  Kind kind_;
  int root_;
  F op_;
  PackedParts mine_;
  PackedParts all_;
};

template <class T, class F>
using ReductionOf =
    std::conditional_t<Direct<T> && !std::is_same_v<T, std::string>, ReduceDirect<T, F>, ReduceObject<T, F>>;

}  // namespace detail
}  // namespace manyhands::mpi
