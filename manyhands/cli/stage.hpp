#pragma once
// How far a program has come with MPI, as libmanyhands_mpi_stage.so (mpi_stage.cpp) tells it to the rank
// process (rank.hpp).

#include <cstdint>
#include <string_view>

namespace manyhands::cli {

inline constexpr const char* stage_variable = "MANYHANDS_RUN_STAGE";  // the socket's abstract name
inline constexpr std::string_view mpich_segment_prefix = "/dev/shm/mpich_shar_tmp";

// What a datagram begins with.
enum class StageLetter : char {
  loaded = 'l',     // the library is in the program
  entered = 'i',    // MPI_Init begins
  finalized = 'f',  // MPI_Finalize has returned
  aborted = 'a',    // MPI_Abort begins; its code as text
  segment = 's',    // a file was made; its name behind mpich_segment_prefix
};

enum class Stage : std::uint8_t {
  unknown,    // the library is not there (a static program, another host)
  outside,    // MPI_Init was not called
  entered,    // it was
  finalized,  // MPI_Finalize has returned
};

}  // namespace manyhands::cli
