#pragma once
// <mpi.h> without its long gone C++ bindings, and what this MPI has beyond MPI 3.1, as macros of 0 or 1.
//
// Open MPI 4.1 is MPI 3.1, MPICH 4.0 is MPI 4.0. What is missing is emulated where that is possible
// (persistent collectives, large counts) and a clear exception elsewhere; features() (environment.hpp) says
// the same at run time.

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>
#if defined(OPEN_MPI) && OPEN_MPI
#include <mpi-ext.h>
#endif

#define MH_MPI_HAS_LARGE_COUNT (MPI_VERSION >= 4)
// MPICH 4.0 has persistent collectives, but its persistent allgather copies the data when it is set up, not
// when it is started (seen with 4.0.2 and 2 ranks): they are emulated there.
#if MPI_VERSION >= 4 && !defined(MPICH_NUMVERSION)
#define MH_MPI_HAS_PERSISTENT_COLLECTIVES 1
#else
#define MH_MPI_HAS_PERSISTENT_COLLECTIVES 0
#endif
#if MPI_VERSION >= 4 || (defined(OMPI_MAJOR_VERSION) && OMPI_MAJOR_VERSION >= 5)
#define MH_MPI_HAS_SESSIONS 1
#define MH_MPI_HAS_PARTITIONED 1
#else
#define MH_MPI_HAS_SESSIONS 0
#define MH_MPI_HAS_PARTITIONED 0
#endif
