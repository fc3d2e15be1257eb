#pragma once
// Running the tasks of an mpi::Pool, on any rank. Private to mpi::Pool.

#include <cstdint>
#include <exception>
#include <map>
#include <memory>

#include "manyhands/mpi/pool_message.hpp"
#include "manyhands/wire/call.hpp"

namespace manyhands::mpi::detail::pool {

// Calls, and the maps whose functions this rank has been told. What a task throws becomes its answer.
class Runner {
 public:
  explicit Runner(int rank) : rank_(rank) {}

  // Runs a record; adds its result to `answers`, if it has one.
  void run(const Record& record, Message& answers);

 private:
  using Function = std::unique_ptr<wire::RangeRunner>;
  void run_call(const Record& record, Message& answers);

  // The function of a map, unpacked at once; what fails is reported by its first range.
  void learn(const Record& record);
  void run_range(const Record& record, Message& answers);
  void add_error(Header answer, std::int64_t task, Message& answers) const;

  struct Known {
    Function function;
    std::exception_ptr error;
  };
  int rank_;
  std::map<std::uint64_t, Known> functions_;  // of maps
};

}  // namespace manyhands::mpi::detail::pool
