! A Fortran routine that knows nothing of manyhands: a communicator comes in as Fortran's integer handle.
subroutine f_largest(comm, value, largest) bind(c, name="f_largest")
  use, intrinsic :: iso_c_binding, only: c_int, c_double
  use mpi
  implicit none
  integer(c_int), value :: comm
  real(c_double), value :: value
  real(c_double), intent(out) :: largest
  real(c_double) :: mine
  integer :: ierror
  mine = value
  call MPI_Allreduce(mine, largest, 1, MPI_DOUBLE_PRECISION, MPI_MAX, comm, ierror)
end subroutine f_largest
