#pragma once
// Info: hints for the MPI, as keys and values of text.

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "manyhands/mpi/native.hpp"

namespace manyhands::mpi {

// mpi::Info info{{"cb_buffer_size", "1048576"}}; A resource: moved; dup() copies. Any thread, one at a time.
class Info {
 public:
  Info() = default;  // no hints: MPI_INFO_NULL
  Info(std::initializer_list<std::pair<std::string, std::string>> hints);
  static Info adopt(MPI_Info raw) noexcept;
  // The environment that the job was started with (MPI_INFO_ENV): command, maxprocs, wdir ...
  static Info of_job();

  // Throws Error (info_key, info_value) if a text is longer than the MPI allows.
  void set(const std::string& key, const std::string& value);
  std::optional<std::string> get(const std::string& key) const;
  void erase(const std::string& key);
  std::map<std::string, std::string> all() const;
  Info dup() const;

  Info(Info&& other) noexcept : info_(std::exchange(other.info_, MPI_INFO_NULL)) {}
  Info& operator=(Info&& other) noexcept;
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  ~Info();

  MPI_Info native() const noexcept { return info_; }
  MPI_Info release() noexcept { return std::exchange(info_, MPI_INFO_NULL); }

 private:
  explicit Info(MPI_Info info) noexcept : info_(info) {}
  MPI_Info info_ = MPI_INFO_NULL;
};

}  // namespace manyhands::mpi
