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
  // Raw handles in: takes ownership, or refers to one that another frees (also Fortran's).
  static Info adopt(MPI_Info raw) noexcept { return Info(raw, true); }
  static Info view(MPI_Info raw) noexcept { return Info(raw, false); }
  static Info from_fortran(MPI_Fint handle) { return view(MPI_Info_f2c(handle)); }
  // The environment that the job was started with (MPI_INFO_ENV): command, maxprocs, wdir ...
  static Info of_job();

  // Throws Error (info_key, info_value) if a text is longer than the MPI allows.
  void set(const std::string& key, const std::string& value);
  std::optional<std::string> get(const std::string& key) const;
  void erase(const std::string& key);
  std::map<std::string, std::string> all() const;
  Info dup() const;

  Info(Info&& other) noexcept
      : info_(std::exchange(other.info_, MPI_INFO_NULL)), owned_(std::exchange(other.owned_, true)) {}
  Info& operator=(Info&& other) noexcept;
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  ~Info();

  MPI_Info native() const noexcept { return info_; }
  // Gives the raw handle away; who takes it frees it. This object has no hints then.
  MPI_Info release() noexcept {
    owned_ = true;
    return std::exchange(info_, MPI_INFO_NULL);
  }
  MPI_Fint to_fortran() const { return MPI_Info_c2f(info_); }

 private:
  explicit Info(MPI_Info info, bool owned = true) noexcept : info_(info), owned_(owned) {}
  MPI_Info info_ = MPI_INFO_NULL;
  bool owned_ = true;
};

}  // namespace manyhands::mpi
