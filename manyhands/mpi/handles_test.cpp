// Raw handles of every kind, there and back: native, release, view, adopt, Fortran's.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "manyhands/mpi/environment.hpp"
#include "manyhands/mpi/file.hpp"
#include "manyhands/mpi/intercomm.hpp"
#include "manyhands/mpi/session.hpp"
#include "manyhands/mpi/topology.hpp"
#include "manyhands/mpi/window.hpp"
#include "tests/mpi_samples.hpp"

namespace manyhands::mpi {
namespace {

using test::code_of;

TEST_CASE("communicators go to Fortran and come back") {
  const Comm copy = world().dup();
  {
    const Comm same = Comm::from_fortran(copy.to_fortran());
    CHECK(same.native() == copy.native());
    CHECK(same.compare(copy) == Comparison::identical);
  }
  CHECK(copy.allreduce(1, std::plus<>()) == world().size());  // was only viewed
  const Cart line(world(), {.dims = {0}});
  CHECK(Cart::from_fortran(line.to_fortran()).dims() == line.dims());
  CHECK(Comm().to_fortran() == MPI_Comm_c2f(MPI_COMM_NULL));
}

TEST_CASE("groups and hints are viewed, copied and released") {
  const Group all = world().group();
  {
    const Group viewed = Group::view(all.native());
    const Group back = Group::from_fortran(all.to_fortran());
    CHECK(viewed == all);
    CHECK(back == all);
  }
  CHECK(all.size() == world().size());  // still there
  Group copy = all.dup();
  CHECK(copy == all);
  MPI_Group raw = copy.release();
  CHECK(copy.empty());
  CHECK(Group::adopt(raw) == all);
  CHECK(Group().dup().empty());

  Info hints{{"key", "value"}};
  {
    const Info viewed = Info::view(hints.native());
    CHECK(viewed.get("key") == "value");
    CHECK(Info::from_fortran(hints.to_fortran()).get("key") == "value");
    Info taken = Info::view(hints.native());
    taken = Info();
    Info moved = Info::from_fortran(hints.to_fortran());
    const Info again = std::move(moved);
    CHECK(again.get("key") == "value");
  }
  CHECK(hints.get("key") == "value");
  const Info adopted = Info::adopt(hints.release());
  CHECK(adopted.get("key") == "value");
  CHECK(hints.native() == MPI_INFO_NULL);
  hints.set("other", "x");  // one of its own, which it frees
  CHECK(hints.get("other") == "x");
}

TEST_CASE("datatypes go to Fortran and come back") {
  const Datatype type = Datatype::vector<double>(3, 1, 4);
  CHECK(Datatype::from_fortran(type.to_fortran()).native() == type.native());
  CHECK(type.size() == 24);
  CHECK(Datatype::from_fortran(Datatype::view(MPI_INT).to_fortran()).native() == MPI_INT);
}

TEST_CASE("a request that owns nothing is given away and one of MPI is taken over") {
  const Comm& comm = world();
  const int next = (comm.rank() + 1) % comm.size();
  const int last = (comm.rank() + comm.size() - 1) % comm.size();
  std::vector<int> in(3);
  const std::vector<int> out{comm.rank(), 1, 2};
  Request<void> receiving = comm.irecv_into(std::span(in), {.source = last, .tag = 5});
  CHECK(receiving.native() != MPI_REQUEST_NULL);
  int flag = 1;
  MPI_Request_get_status(receiving.native(), &flag, MPI_STATUS_IGNORE);  // looks, and leaves it
  MPI_Request raw = receiving.release();
  CHECK_FALSE(receiving.valid());
  CHECK(code_of([&] { static_cast<void>(receiving.release()); }) == Errc::request);
  MPI_Request sending = MPI_REQUEST_NULL;
  MPI_Isend(out.data(), 3, MPI_INT, next, 5, comm.native(), &sending);
  Request<void> sent = Request<void>::from_fortran(MPI_Request_c2f(sending));
  Request<void> adopted = Request<void>::adopt(raw);
  adopted.wait();
  CHECK(adopted.status().source == last);
  CHECK(adopted.status().bytes == 12);
  CHECK(in == std::vector<int>{last, 1, 2});
  sent.get();

  Request<std::string> text = comm.irecv<std::string>({.source = last, .tag = 6});
  CHECK(text.native() == MPI_REQUEST_NULL);  // nothing is known of its size yet
  comm.isend(std::string("hello"), {.dest = next, .tag = 6}).get();
  CHECK(text.get() == "hello");
  Request<void> lent = comm.ibarrier();
  CHECK(code_of([&] { static_cast<void>(lent.release()); }) == Errc::request);  // keeps what MPI may read
  lent.get();
}

TEST_CASE("windows and files are viewed and released") {
  const Comm& comm = world();
  Window<int> window(comm, 4);
  {
    const auto viewed = Window<int>::from_fortran(window.to_fortran());
    CHECK(viewed.native() == window.native());
    viewed.put(comm.rank(), 1, 7);
    CHECK(window.load(comm.rank(), 1) == 7);
  }
  {
    const auto lock = window.lock(comm.rank());
    CHECK(code_of([&] { static_cast<void>(window.release()); }) == Errc::rma_sync);
  }
  const MPI_Win raw = window.release();
  CHECK_FALSE(window);
  Window<int> adopted = Window<int>::adopt(raw);
  CHECK(adopted.size() == comm.size());
  adopted.free();

  const std::string path = comm.bcast(
      (std::filesystem::temp_directory_path() / ("handles_" + std::to_string(::getpid()))).string());
  File file(comm, path, Mode::create | Mode::read | Mode::write | Mode::delete_on_close);
  {
    File viewed = File::from_fortran(file.to_fortran());
    viewed.write_at_all(comm.rank(), comm.rank() + 10);
    CHECK(code_of([&] { viewed.close(); }) == Errc::file);
  }
  file.sync();
  comm.barrier();
  file.sync();
  CHECK(file.read_at<int>(comm.size() - 1) == comm.size() + 9);
  const Datatype gap = Datatype::view(MPI_INT).resized(0, 12);
  CHECK(file.type_extent(gap) == 12);
  CHECK(file.type_extent(Datatype::view(MPI_DOUBLE)) == 8);
  const MPI_File handle = file.release();
  CHECK_FALSE(file);
  File::adopt(handle).close();
  CHECK(code_of([] { static_cast<void>(File::view(MPI_FILE_NULL)); }) == Errc::file);
}

void keep_larger(void* in, void* inout, int* n, MPI_Datatype*) {
  for (int i = 0; i < *n; ++i) {
    const int a = static_cast<const int*>(in)[i];
    int& b = static_cast<int*>(inout)[i];
    b = a > b ? a : b;
  }
}

TEST_CASE("operations of MPI are function objects as any other") {
  const Comm& comm = world();
  const int n = comm.size();
  const NativeOp sum = NativeOp::view(MPI_SUM);
  CHECK(sum(3, 4) == 7);
  CHECK(sum.is_commutative());
  CHECK(NativeOp::from_fortran(sum.to_fortran()).native() == MPI_SUM);
  CHECK(comm.allreduce(2, sum) == 2 * n);
  NativeOp larger = NativeOp::create(&keep_larger, false);
  CHECK_FALSE(larger.is_commutative());
  CHECK(larger(3, 9) == 9);
  CHECK(comm.allreduce(std::vector<int>{comm.rank(), -comm.rank()}, larger) == std::vector<int>{n - 1, 0});
  auto request = comm.iallreduce(comm.rank(), NativeOp(larger));
  CHECK(code_of([&] { static_cast<void>(larger.release()); }) == Errc::op);  // the request uses it
  CHECK(request.get() == n - 1);
  MPI_Op raw = larger.release();
  CHECK(larger.native() == MPI_OP_NULL);
  CHECK(NativeOp::adopt(raw)(1, 2) == 2);
  CHECK(code_of([] { static_cast<void>(NativeOp::view(MPI_OP_NULL)); }) == Errc::op);

  CHECK(is_commutative<int>(std::plus<>()));
  CHECK(is_commutative<int>(sum));
  CHECK(is_commutative<std::pair<int, int>>(commutative([](const auto& a, const auto&) { return a; })));
  CHECK_FALSE(is_commutative<int>([](int a, int) { return a; }));
}

TEST_CASE("sessions and matched messages show their handles") {
  const Comm& comm = world();
  auto sending = comm.isend(5, {.dest = comm.rank(), .tag = 3});
  Message message = comm.mprobe({.source = comm.rank(), .tag = 3});
  CHECK(message.native() != MPI_MESSAGE_NULL);
  CHECK(MPI_Message_f2c(message.to_fortran()) == message.native());
  CHECK(message.recv<int>() == 5);
  CHECK(message.native() == MPI_MESSAGE_NULL);
  sending.get();
#if MH_MPI_HAS_SESSIONS
  const Session session;
  CHECK(session.native() != MPI_SESSION_NULL);
  CHECK(session.info().get("thread_level").value_or("").starts_with("MPI_THREAD_"));
#endif
}

TEST_CASE("an intercommunicator goes to Fortran and comes back") {
  if (world().size() == 1) return;
  const Comm local = world().split(world().rank() % 2);
  const Intercomm both = Intercomm::create(local, 0, world(), world().rank() % 2 == 0 ? 1 : 0);
  CHECK(Intercomm::from_fortran(both.to_fortran()).remote_size() == both.remote_size());
}

TEST_CASE("the job is described by MPI's own attributes") {
  CHECK(is_thread_main());
  const Features& found = features();
  CHECK(found.max_tag >= 32767);
  if (found.io_rank) CHECK((*found.io_rank == any_source || *found.io_rank < world().size()));
  if (found.host_rank) CHECK(*found.host_rank < world().size());
  if (found.app_number) CHECK(*found.app_number == 0);  // one program
  CHECK((world().allreduce(found.wtime_is_global ? 1 : 0, std::plus<>()) % world().size()) == 0);
}

}  // namespace
}  // namespace manyhands::mpi
