#include "manyhands/mpi/op.hpp"

#include <exception>
#include <string>

#include "manyhands/mpi/environment.hpp"

namespace manyhands::mpi {

NativeOp::NativeOp(MPI_Op raw, bool owned) {
  detail::require_active("NativeOp");
  if (raw == MPI_OP_NULL) detail::fail(Errc::op, "NativeOp", {}, "the handle is MPI_OP_NULL");
  op_ = std::shared_ptr<MPI_Op>(new MPI_Op(raw), [owned](MPI_Op* op) {
    if (owned && *op != MPI_OP_NULL && is_active()) MPI_Op_free(op);
    delete op;
  });
}

NativeOp NativeOp::create(MPI_User_function* function, bool commutative) {
  detail::require_active("NativeOp::create");
  MPI_Op made = MPI_OP_NULL;
  detail::check(MPI_Op_create(function, commutative ? 1 : 0, &made), "NativeOp::create");
  return adopt(made);
}

MPI_Op NativeOp::release() {
  if (op_ == nullptr) return MPI_OP_NULL;
  if (op_.use_count() > 1)
    detail::fail(Errc::op, "NativeOp::release", {},
                 "copies of it are in use, in requests under way for instance");
  const MPI_Op raw = std::exchange(*op_, MPI_OP_NULL);
  op_.reset();
  return raw;
}

bool NativeOp::is_commutative() const {
  detail::require_active("NativeOp::is_commutative");
  int commutes = 0;
  detail::check(MPI_Op_commutative(native(), &commutes), "NativeOp::is_commutative");
  return commutes != 0;
}

void NativeOp::reduce_local(const void* in, void* inout, MPI_Datatype type) const {
  detail::require_active("NativeOp");
  detail::check(MPI_Reduce_local(in, inout, 1, type, native()), "NativeOp");
}

namespace detail {

void end_job_for_operation() noexcept {
  std::string what = "an operation of a reduction threw an exception";
  try {
    throw;
  } catch (const std::exception& e) {
    what += std::string(": ") + e.what();
  } catch (...) {
  }
  mpi::abort(what + "; the job ends");
}

int state_key_of_types() {
  static const int key = [] {
    int made = MPI_KEYVAL_INVALID;
    check(MPI_Type_create_keyval(MPI_TYPE_NULL_COPY_FN, MPI_TYPE_NULL_DELETE_FN, &made, nullptr),
          "operation");
    at_finalize([made]() mutable { MPI_Type_free_keyval(&made); });
    return made;
  }();
  return key;
}

MPI_Op make_kept_op(MPI_User_function* function, bool commutative) {
  MPI_Op op = MPI_OP_NULL;
  check(MPI_Op_create(function, commutative ? 1 : 0, &op), "operation");
  at_finalize([op]() mutable { MPI_Op_free(&op); });
  return op;
}

OpHandle::OpHandle(MPI_User_function* function, bool commutative, MPI_Datatype type, const void* f)
    : op_(MPI_OP_NULL), type_(MPI_DATATYPE_NULL), owned_(true) {
  check(MPI_Op_create(function, commutative ? 1 : 0, &op_), "operation");
  check(MPI_Type_contiguous(1, type, &type_), "operation");
  check(MPI_Type_set_attr(type_, state_key_of_types(), const_cast<void*>(f)), "operation");
  check(MPI_Type_commit(&type_), "operation");
}

OpHandle::~OpHandle() {
  if (!owned_ || !is_active()) return;
  MPI_Op_free(&op_);
  MPI_Type_free(&type_);
}

}  // namespace detail
}  // namespace manyhands::mpi
