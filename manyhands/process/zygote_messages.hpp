#pragma once
// What the processes of a program and their zygote say to each other: plain bytes over net::FdChannel.

#include <sys/types.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "manyhands/net/fd_channel.hpp"
#include "manyhands/process/spawner.hpp"
#include "manyhands/process/zygote.hpp"
#include "manyhands/shm/heap.hpp"

namespace manyhands::process {

// ---- The door: from the program, its workers and processes.

// fds: the pool's channel, board, supervisor's eventfd; then, if there is one, the working directory.
struct OpenPool {
  std::uint64_t type = 1;
  std::uint32_t workers = 0;
  ZygoteSpawn how = ZygoteSpawn::fork;
  shm::Offset surroundings = 0;        // with one reference for the zygote
  std::uint64_t same_credentials = 0;  // 1: the sender says it has those of the zygote's birth
};
// fds: the working directory, if there is one.
struct StartProcess {
  std::uint64_t type = 2;
  shm::Offset record = 0;  // with one reference for the zygote
  pid_t parent = 0;        // who asks; the process is killed when it ends
  ZygoteSpawn how = ZygoteSpawn::fork;
  shm::Offset surroundings = 0;  // with one reference for the zygote
  std::uint64_t same_credentials = 0;
};
// The program ends now.
struct Goodbye {
  std::uint64_t type = 3;
};
// From the zygote, once, to the program that made it.
struct Born {
  std::uint64_t type = 4;
  std::uint64_t thread = 0;  // its shm::ThreadToken
};

// ---- A pool's channel.

struct PoolRequest {                                       // to the zygote
  enum class What : std::uint32_t { spawn, kill, close };  // close: start no more workers
  std::uint64_t type = 5;
  What what = What::spawn;
  std::uint32_t worker = 0;
};
struct PoolReport {  // from the zygote; fds: a pidfd if started, unless it had no descriptor left
  std::uint64_t type = 6;
  WorkerEvent::Kind kind = WorkerEvent::Kind::started;
  std::uint32_t worker = 0;
  pid_t pid = 0;
  std::int32_t status = 0;
  std::uint64_t peak_memory = 0;
};

template <class T>
ByteView bytes_of(const T& message) noexcept {
  return {reinterpret_cast<const std::byte*>(&message), sizeof message};
}
// nullopt if it is a message of another type.
template <class T>
std::optional<T> message_as(const net::FdChannel::Message& message) noexcept {
  T value;
  const auto type = value.type;
  if (message.size != sizeof value) return std::nullopt;
  std::memcpy(&value, message.bytes.data(), sizeof value);
  if (value.type != type) return std::nullopt;
  return value;
}

}  // namespace manyhands::process
