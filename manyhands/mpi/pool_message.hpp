#pragma once
// The messages between the ranks of an mpi::Pool: the size in bytes, then records one after the other. What
// is longer than a frame follows in a second message with the next tag.
//
// All ranks run the same program, so numbers go as they lie in memory.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <type_traits>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/request.hpp"
#include "manyhands/wire/error.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands::mpi::detail::pool {

inline constexpr std::size_t frame_size = 8192;
inline constexpr int task_tag = 1;                // frames to a rank; the rest of a message has the next tag
inline constexpr int result_tag = 3;              // frames to rank 0
inline constexpr std::size_t batch_bytes = 6144;  // of calls that go together

enum class RecordKind : std::uint32_t { call, function, forget, range, end, value, error };

// The head of a record, and of a result. `size_bytes` of payload follow, padded to 8.
struct Header {
  RecordKind kind = RecordKind::call;
  std::uint32_t has_function = 0;
  std::uint64_t id = 0;     // of the call, or of the map
  std::uint64_t first = 0;  // item
  std::uint64_t count = 0;  // items
  std::uint64_t size_bytes = 0;
  std::int64_t deadline_ns = INT64_MAX;  // how long a call or item may take
  std::uint64_t seed = 0;                // of a call's or the items' random numbers
  std::int64_t started_ns = 0;
  std::int64_t completed_ns = 0;
  wire::BuildId module;
  std::uint32_t item_size = 0;    // of plain items
  std::uint64_t offset = 0;       // of the function
  std::uint64_t result_size = 0;  // of plain results
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) % 8 == 0);

// A message under construction: its size first.
class Message {
 public:
  Message() { clear(); }
  void clear() { bytes_.assign(sizeof(std::uint64_t), std::byte{0}); }
  bool empty() const noexcept { return bytes_.size() == sizeof(std::uint64_t); }
  std::size_t size() const noexcept { return bytes_.size(); }
  // Adds a record and returns where its payload goes.
  std::byte* add(Header header, std::size_t payload) {
    header.size_bytes = payload;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof header + round_up(payload, 8));
    std::memcpy(bytes_.data() + at, &header, sizeof header);
    return bytes_.data() + at + sizeof header;
  }
  void add(const Header& header, ByteView payload) {
    std::byte* const to = add(header, payload.size());
    if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
  }
  // With the size in place.
  ByteView finish() {
    const std::uint64_t size = bytes_.size();
    std::memcpy(bytes_.data(), &size, sizeof size);
    return bytes_;
  }

 private:
  std::vector<std::byte> bytes_;
};

struct Record {
  Header header;
  ByteView payload;
};

// Takes the records of a message one after the other.
class Records {
 public:
  explicit Records(ByteView message) : left_(message.subspan(sizeof(std::uint64_t))) {}
  std::optional<Record> next() {
    if (left_.empty()) return std::nullopt;
    Record record;
    if (left_.size() < sizeof record.header) throw WireError("a message of mpi::Pool ends within a record");
    std::memcpy(&record.header, left_.data(), sizeof record.header);
    const std::size_t size = record.header.size_bytes;
    if (size > left_.size() - sizeof record.header)
      throw WireError("a message of mpi::Pool ends within a payload");
    record.payload = left_.subspan(sizeof record.header, size);
    left_ = left_.subspan(std::min(left_.size(), sizeof record.header + round_up(size, 8)));
    return record;
  }

 private:
  ByteView left_;
};

inline std::uint64_t size_of(const std::byte* frame) {
  std::uint64_t size = 0;
  std::memcpy(&size, frame, sizeof size);
  return size;
}

// Messages under way, each with its bytes.
class Outbox {
 public:
  // Sends without waiting: a rank that computes does not take large messages, and who sends has other work.
  void post(const Comm& comm, ByteView bytes, int to, int tag) {
    Sent one;
    one.bytes.assign(bytes.begin(), bytes.end());
    const ByteView kept(one.bytes);
    one.frame = comm.isend(kept.first(std::min(kept.size(), frame_size)), {.dest = to, .tag = tag});
    if (kept.size() > frame_size)
      one.rest = comm.isend(kept.subspan(frame_size), {.dest = to, .tag = tag + 1});
    sent_.push_back(std::move(one));
  }
  // Forgets what has arrived, oldest first.
  void reap() {
    while (!sent_.empty() && sent_.front().frame.test() &&
           (!sent_.front().rest.valid() || sent_.front().rest.test()))
      sent_.pop_front();
  }
  void flush() {
    for (Backoff backoff; !sent_.empty(); backoff.pause()) reap();
  }

 private:
  struct Sent {
    Request<void> frame;
    Request<void> rest;
    std::vector<std::byte> bytes;
  };
  std::deque<Sent> sent_;
};

}  // namespace manyhands::mpi::detail::pool
