#include "manyhands/mpi/pool.hpp"

#include <exception>
#include <string>

#include "manyhands/mpi/collectives.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands::mpi {

namespace {

void initialize(const Comm& comm, const std::function<void()>& initializer, bool driver_works) {
  std::string failure;
  try {
    if (driver_works || comm.rank() != 0) initializer();
  } catch (const std::exception& error) {
    failure = std::string("it threw: ") + error.what();
  } catch (...) {
    failure = "it threw an exception that is no std::exception";
  }
  const auto failures = comm.allgather(failure);
  for (std::size_t rank = 0; rank < failures.size(); ++rank) {
    if (!failures[rank].empty())
      throw manyhands::Error("mpi::Pool: the initializer failed on rank " + std::to_string(rank) + "; " +
                             failures[rank]);
  }
}

}  // namespace

Pool::Pool(const Comm& comm, const PoolOptions& options) : exceptions_(std::uncaught_exceptions()) {
  if (options.prefetch < 1)
    throw manyhands::Error("mpi::Pool: prefetch must be at least 1, not " + std::to_string(options.prefetch));
  // A function is an address of the executable: it must be the same one everywhere.
  const wire::Function here = wire::function_at(reinterpret_cast<const void*>(&detail::serve_pool));
  const auto ids = comm.allgather(here.module.bytes);
  for (std::size_t rank = 0; rank < ids.size(); ++rank) {
    if (ids[rank] != ids[0])
      throw manyhands::Error("mpi::Pool: rank " + std::to_string(rank) +
                             " runs another build of the program than rank 0 (" +
                             wire::BuildId{ids[rank]}.hex() + ", not " + wire::BuildId{ids[0]}.hex() + ")");
  }
  const bool alone = comm.size() == 1;
  const bool driver_works = options.driver_works || alone;
  size_ = comm.size() - (driver_works ? 0 : 1);
  if (options.initializer) initialize(comm, options.initializer, driver_works);
  if (comm.rank() == 0) {
    driver_ = std::make_shared<detail::PoolDriver>(comm, driver_works, options.prefetch);
  } else {
    detail::serve_pool(comm);
  }
}

Pool::~Pool() {
  if (driver_ == nullptr || driver_->closed()) return;
  driver_->close(std::uncaught_exceptions() > exceptions_);
}

void Pool::close() {
  if (driver_ == nullptr) return;
  driver_->close(false);
}

detail::PoolDriver& Pool::driver() const {
  if (driver_ == nullptr)
    throw manyhands::Error("mpi::Pool: only rank 0 may submit tasks; test the pool with if (pool)");
  if (driver_->closed()) throw manyhands::Error("mpi::Pool: the pool is closed");
  return *driver_;
}

}  // namespace manyhands::mpi
