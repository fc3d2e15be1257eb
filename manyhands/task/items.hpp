#pragma once
// Items<T>: the items of a map, gathered from any range into one array.

#include <cstddef>
#include <type_traits>
#include <vector>

namespace manyhands::task {

// std::vector<bool> packs bits, to which nothing can point; this does not.
class BoolItems {
 public:
  void emplace_back(bool value) { items_.push_back({value}); }
  void reserve(std::size_t size) { items_.reserve(size); }
  const bool* data() const noexcept { return &items_.data()->value; }
  std::size_t size() const noexcept { return items_.size(); }
  bool empty() const noexcept { return items_.empty(); }
  const bool* begin() const noexcept { return data(); }
  const bool* end() const noexcept { return data() + size(); }

 private:
  struct Item {
    bool value;
  };
  static_assert(sizeof(Item) == sizeof(bool));
  std::vector<Item> items_;
};

template <class T>
using Items = std::conditional_t<std::is_same_v<T, bool>, BoolItems, std::vector<T>>;

}  // namespace manyhands::task
