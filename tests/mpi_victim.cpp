// A rank that fails while the others wait for it, in every way and at every call; run by
// tests/mpi_faults_test.py.
//
//   mpi_victim CALL FAULT     all ranks meet, then the last one does FAULT and the others CALL
//   mpi_victim leaks          uses much of the library; says which handles of MPI were made and not freed
//   mpi_victim differ         collectives in which the ranks differ (with MANYHANDS_CHECK=comm), and
//                             what comes
//   mpi_victim outside        calls before MPI is initialised and after it is finalized, and what comes
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "manyhands/mpi.hpp"

namespace mpi = manyhands::mpi;

namespace {

std::map<std::string, int> handles;  // by kind: made minus freed

}  // namespace

// MPI's functions that make and free handles, counted on their way.
#define MH_COUNTED(name, kind, change, parameters, arguments) \
  extern "C" int MPI_##name parameters {                      \
    handles[kind] += change;                                  \
    return PMPI_##name arguments;                             \
  }
MH_COUNTED(Type_contiguous, "datatype", 1, (int n, MPI_Datatype t, MPI_Datatype* o), (n, t, o))
MH_COUNTED(Type_vector, "datatype", 1, (int n, int l, int s, MPI_Datatype t, MPI_Datatype* o),
           (n, l, s, t, o))
MH_COUNTED(Type_create_struct, "datatype", 1,
           (int n, const int l[], const MPI_Aint d[], const MPI_Datatype t[], MPI_Datatype* o),
           (n, l, d, t, o))
MH_COUNTED(Type_create_resized, "datatype", 1, (MPI_Datatype t, MPI_Aint l, MPI_Aint e, MPI_Datatype* o),
           (t, l, e, o))
MH_COUNTED(Type_create_subarray, "datatype", 1,
           (int n, const int a[], const int b[], const int c[], int order, MPI_Datatype t, MPI_Datatype* o),
           (n, a, b, c, order, t, o))
MH_COUNTED(Type_dup, "datatype", 1, (MPI_Datatype t, MPI_Datatype* o), (t, o))
MH_COUNTED(Type_free, "datatype", -1, (MPI_Datatype * t), (t))
MH_COUNTED(Op_create, "operation", 1, (MPI_User_function * f, int c, MPI_Op* o), (f, c, o))
MH_COUNTED(Op_free, "operation", -1, (MPI_Op * o), (o))
MH_COUNTED(Comm_dup, "communicator", 1, (MPI_Comm c, MPI_Comm* o), (c, o))
MH_COUNTED(Comm_free, "communicator", -1, (MPI_Comm * c), (c))
MH_COUNTED(Group_incl, "group", 1, (MPI_Group g, int n, const int r[], MPI_Group* o), (g, n, r, o))
MH_COUNTED(Comm_group, "group", 1, (MPI_Comm c, MPI_Group* o), (c, o))
MH_COUNTED(Group_free, "group", -1, (MPI_Group * g), (g))
MH_COUNTED(Info_create, "info", 1, (MPI_Info * i), (i))
MH_COUNTED(Info_dup, "info", 1, (MPI_Info i, MPI_Info* o), (i, o))
MH_COUNTED(Info_free, "info", -1, (MPI_Info * i), (i))
MH_COUNTED(Type_create_keyval, "key", 1,
           (MPI_Type_copy_attr_function * c, MPI_Type_delete_attr_function* d, int* k, void* e), (c, d, k, e))
MH_COUNTED(Type_free_keyval, "key", -1, (int* k), (k))

extern "C" int MPI_Comm_split(MPI_Comm c, int color, int key, MPI_Comm* o) {
  const int code = PMPI_Comm_split(c, color, key, o);
  if (*o != MPI_COMM_NULL) ++handles["communicator"];
  return code;
}
extern "C" int MPI_Finalize() {
  const int code = PMPI_Finalize();
  for (const auto& [kind, left] : handles) std::printf("%s: %d left\n", kind.c_str(), left);
  return code;
}

namespace {

struct Plain {
  double x;
  int id;
};

double square(double x) { return x * x; }

void use_everything() {
  const auto& world = mpi::world();
  const int rank = world.rank();
  const auto dup = world.dup();
  const auto half = dup.split(rank % 2);
  static_cast<void>(half.allreduce(Plain{1, rank}, [](Plain a, Plain b) { return a.id > b.id ? a : b; }));
  int offset = 1;  // not const: as a constant it would be no state of the lambdas
  static_cast<void>(dup.allreduce(rank, [offset](int a, int b) { return a + b + offset; }));
  static_cast<void>(dup.iallreduce(rank, [offset](int a, int b) { return a + b + offset; }).get());
  static_cast<void>(mpi::datatype_of<Plain>());
  const auto column = mpi::Datatype::vector<double>(3, 1, 3);
  double matrix[9] = {};
  auto sent = dup.isend(mpi::buffer(matrix, 1, column), {.dest = rank});
  dup.recv_into(std::span(matrix, 3), {.source = rank});
  sent.get();
  const auto group = dup.group().include({0});
  const mpi::Info info{{"key", "value"}};
  dup.print("");
  const std::map<std::string, std::vector<double>> object{{"large", std::vector<double>(100'000)}};
  auto round = dup.isend(std::map(object), {.dest = rank});
  static_cast<void>(dup.recv<std::map<std::string, std::vector<double>>>({.source = rank}));
  round.get();
  {
    mpi::Pool pool(dup);
    if (pool) static_cast<void>(pool.map(square, std::vector<double>(100, 2.0)));
  }
  auto dropped = dup.irecv<std::vector<int>>({.source = rank, .tag = 99});
  auto cancelled = dup.irecv<int>({.source = rank, .tag = 98});
}

int outside() {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // whole lines, whatever their number
  const auto attempt = [](const char* what, auto call) {
    try {
      call();
      std::printf("%s: no error\n", what);
    } catch (const mpi::Error& error) {
      std::printf("%s: %s: %s\n", what, error.code() == mpi::Errc::not_active ? "not active" : "other",
                  error.what());
    }
  };
  attempt("before", [] { static_cast<void>(mpi::world()); });
  attempt("before", [] { static_cast<void>(mpi::features()); });
  static_cast<void>(mpi::control_variables());  // also without MPI
  mpi::Comm kept;
  mpi::Request<int> request;
  mpi::Request<std::string> unsized;
  mpi::Request<void> finished;
  mpi::Persistent persistent;
  mpi::Datatype type;
  mpi::Group group;
  mpi::Info info;
  std::optional<mpi::Cart> grid;
  std::optional<mpi::Message> message;
  std::optional<mpi::Window<int>> window;
  std::optional<mpi::WindowBase::Lock> lock;
  std::optional<mpi::File> file;
  std::optional<mpi::File::Split> split;
  std::optional<mpi::Halo> halo;
  std::optional<mpi::AttributeKey<int>> key;
  std::optional<mpi::NativeOp> op;
  std::optional<mpi::PartitionedSend> parts;
  std::optional<mpi::GeneralizedRequest> own;
  std::optional<mpi::SharedArray<int>> shared;
  std::vector<int> data(8);
  {
    const mpi::Environment env;
    kept = mpi::world().dup();
    request = kept.irecv<int>({.source = kept.rank(), .tag = 8});
    unsized = kept.irecv<std::string>({.source = kept.rank(), .tag = 7});
    finished = kept.ibarrier();
    finished.wait();
    persistent = kept.recv_init(std::span(data), {.source = 0});
    type = mpi::Datatype::vector<int>(2, 1, 2);
    group = kept.group();
    info.set("key", "value");
    grid.emplace(kept, mpi::CartOptions{.dims = {1}, .periodic = {true}});
    auto sent = kept.isend(1, {.dest = 0, .tag = 9});
    message.emplace(kept.mprobe({.source = 0, .tag = 9}));
    window.emplace(kept, 4);
    lock.emplace(window->lock(0));
    file.emplace(kept, "mpi_victim.outside",
                 mpi::Mode::create | mpi::Mode::read | mpi::Mode::write | mpi::Mode::delete_on_close);
    split.emplace(file->write_at_all_begin(0, data));
    halo.emplace(*grid, mpi::grid_view(data.data(), {8}));
    key.emplace();
    op.emplace(mpi::NativeOp::view(MPI_SUM));
    parts.emplace(kept.psend_init(std::span(data), 2, {.dest = 0}));
    own.emplace();
    shared.emplace(kept, 4);
    auto moved = std::move(request);
    attempt("moved from", [&] { request.wait(); });
    attempt("moved from", [&] { static_cast<void>(request.get()); });
    request = std::move(moved);
  }
  attempt("after", [] { static_cast<void>(mpi::world()); });
  attempt("after", [&] { kept.barrier(); });
  attempt("after", [&] { kept.send(1, {.dest = 0}); });
  attempt("after", [&] { request.wait(); });
  attempt("after", [&] { unsized.wait(); });
  attempt("after", [&] { static_cast<void>(finished.status()); });
  attempt("after", [&] { persistent.start(); });
  attempt("after", [&] { static_cast<void>(kept.rank()); });
  attempt("after", [&] { static_cast<void>(kept.name()); });
  attempt("after", [&] { static_cast<void>(kept.irecv<std::string>()); });
  attempt("after", [&] { static_cast<void>(kept.dup()); });
  attempt("after", [&] { static_cast<void>(type.size()); });
  attempt("after", [&] { static_cast<void>(type.describe()); });
  attempt("after", [&] { static_cast<void>(type.dup()); });
  attempt("after", [&] { static_cast<void>(mpi::Datatype::contiguous<double>(3)); });
  attempt("after", [&] { static_cast<void>(mpi::datatype_of<Plain>()); });
  attempt("after", [&] { static_cast<void>(group.size()); });
  attempt("after", [&] { static_cast<void>(info.get("key")); });
  attempt("after", [&] { info.set("other", "value"); });
  attempt("after", [&] { static_cast<void>(grid->coords(0)); });
  attempt("after", [&] { static_cast<void>(grid->shift(0)); });
  attempt("after", [&] { static_cast<void>(message->status()); });
  attempt("after", [&] { static_cast<void>(message->recv<int>()); });
  attempt("after", [&] { window->put(0, 0, 1); });
  attempt("after", [&] { static_cast<void>(window->size()); });
  attempt("after", [&] { window->free(); });
  attempt("after", [&] { lock->unlock(); });
  attempt("after", [&] { static_cast<void>(shared->of(0)); });
  attempt("after", [&] { static_cast<void>(file->size()); });
  attempt("after", [&] { file->close(); });
  attempt("after", [&] { split->end(); });
  attempt("after", [&] { halo->exchange(); });
  attempt("after", [&] { static_cast<void>(key->get(kept)); });
  attempt("after", [&] { static_cast<void>(op->is_commutative()); });
  attempt("after", [&] { parts->start(); });
  attempt("after", [&] { static_cast<void>(own->request()); });
  attempt("after", [&] { own->complete(); });
  attempt("after", [] { static_cast<void>(mpi::control_variables()); });
  attempt("after", [] { static_cast<void>(mpi::performance_variables()); });
  attempt("after", [] { static_cast<void>(mpi::wtime()); });
  attempt("after", [] { static_cast<void>(mpi::parent()); });
  attempt("after", [] { static_cast<void>(mpi::lookup_name("service")); });
  attempt("after", [] { mpi::attach_buffer(1000); });
  attempt("after", [] { static_cast<void>(mpi::progress()); });
  attempt("after", [] { mpi::delete_file("nothing"); });
  attempt("after", [] { static_cast<void>(mpi::dims_create(4, {0})); });
  attempt("after", [] { static_cast<void>(mpi::pack_external(1)); });
  attempt("after", [] { const mpi::Environment again; });
  return 0;
}

void differ() {
  const auto& world = mpi::world();
  const int rank = world.rank();
  const auto attempt = [&](const char* what, auto call) {
    try {
      call();
      std::printf("%s: rank %d: no error\n", what, rank);
    } catch (const mpi::Error& error) {
      std::printf("%s: rank %d: %s\n", what, rank, error.what());
    }
  };
  std::vector<int> data(6, 1);
  std::vector<int> all(18);
  attempt("operation", [&] { rank == 0 ? world.barrier() : world.bcast_into(data); });
  attempt("operation", [&] {
    rank == 0 ? static_cast<void>(world.allgather(rank))
              : static_cast<void>(world.bcast(std::string("text")));
  });
  attempt("root", [&] { world.bcast_into(data, {.root = rank == 0 ? 1 : 0}); });
  attempt("root",
          [&] { static_cast<void>(world.reduce(std::string("text"), std::plus<>(), {.root = rank})); });
  attempt("root",
          [&] { static_cast<void>(world.scatter(std::vector<int>(3), {.root = rank == 0 ? 99 : 0})); });
  attempt("size", [&] { world.bcast_into(std::span(data).first(rank == 0 ? 3 : 6)); });
  attempt("size", [&] {
    world.allreduce_into(mpi::in_place, std::span(all).first(rank == 0 ? 3 : 6), std::plus<>());
  });
  // What looks different and is right.
  attempt("none", [&] {
    if (rank == 0) {
      world.reduce_into(mpi::in_place, data, std::plus<>());
    } else {
      world.reduce_into(data, std::vector<int>(), std::plus<>());
    }
    rank == 0 ? world.gather_into(data, all) : world.gather_into(data, std::vector<int>());
    static_cast<void>(world.scatter_range(rank == 0 ? all : std::vector<int>()));
  });
}

// As throw std::runtime_error("the disk is full"), but the exception has been caught, and another one since.
[[noreturn]] void throw_again() {
  std::exception_ptr error;
  try {
    throw std::runtime_error("the disk is full");
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  try {
    throw std::logic_error("of no interest");
  } catch (const std::exception&) {
  }
  std::rethrow_exception(error);
}

int run(int argc, char** argv) {
  const std::string call = argc > 1 ? argv[1] : "";
  const std::string fault = argc > 2 ? argv[2] : "";
  if (call == "outside") return outside();
  const mpi::Environment env(argc, argv);
  const auto& world = mpi::world();
  if (call == "differ") {
    differ();
    return 0;
  }
  if (call == "leaks") {
    use_everything();
    return 0;
  }
  const int last = world.size() - 1;
  world.barrier();
  if (world.rank() == last && fault != "task") {
    // Where the test measures from.
    std::fprintf(stderr, "fault at %.3f\n",
                 static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                         std::chrono::system_clock::now().time_since_epoch())
                                         .count()) /
                     1e3);
    std::fflush(nullptr);
    if (fault == "throw" || fault == "pass") throw std::runtime_error("the disk is full");
    if (fault == "again") throw_again();
    if (fault == "abort") mpi::abort("given up");
    if (fault == "kill") ::raise(SIGKILL);
    if (fault == "segv") ::raise(SIGSEGV);
    if (fault == "exit") std::_Exit(3);
    std::fprintf(stderr, "unknown fault %s\n", fault.c_str());
    return 2;
  }
  std::vector<double> data(100'000);
  const std::map<std::string, std::function<void()>> calls{
      {"recv", [&] { static_cast<void>(world.recv<std::string>({.source = last})); }},
      {"send", [&] { world.ssend(data, {.dest = last}); }},
      {"irecv", [&] { static_cast<void>(world.irecv<std::vector<int>>({.source = last}).get()); }},
      {"barrier", [&] { world.barrier(); }},
      {"bcast", [&] { static_cast<void>(world.bcast(std::string("x"), {.root = last})); }},
      {"allreduce", [&] { static_cast<void>(world.allreduce(data, std::plus<>())); }},
      {"alltoall",
       [&] {
         static_cast<void>(
             world.alltoall(std::vector<std::vector<int>>(static_cast<std::size_t>(world.size()))));
       }},
      {"window", [&] { const mpi::Window<int> window(world, 10); }},
      {"pool",
       [&] {
         mpi::Pool pool(world);
         if (pool) static_cast<void>(pool.map(square, data));
       }},
      {"finalize", [] {}},
  };
  const auto found = calls.find(call);
  if (found == calls.end()) mpi::abort("unknown call " + call, 2);
  found->second();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string fault = argc > 2 ? argv[2] : "";
  if (fault != "pass" && fault != "again") return run(argc, argv);
  try {  // the exception passes the Environment, where std::terminate does not hear of it
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "main has caught: %s\n", error.what());
    return 4;
  }
}
