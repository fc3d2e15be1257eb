#pragma once
// The texts that the launchers of the two MPIs write about a job's end, and what can be learned from them.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manyhands::cli {

// A rank that ended the job, as its MPI words it.
struct Abort {
  int rank = 0;
  int code = 0;
  bool by_error =
      false;  // an error of an MPI call, which the MPI has described; else the program called MPI_Abort
};

// How a process that the program had spawned ended the job, as Open MPI's launcher words it: our ranks' own
// ends it does not hear of.
struct SpawnedEnd {
  int signal = 0;  // 0: it ended with `status`
  int status = 0;
};

// What a line of a program's standard error says of such an end:
// MPICH: "Abort(7) on node 2 (rank 2 in comm 0): application called MPI_Abort(MPI_COMM_WORLD, 7) - process 2"
//        "Abort(674310) on node 2 (rank 2 in comm 0): Fatal error in PMPI_Send: ..."
// Open MPI: "[host:123] *** reported by process [1595080705,2]"
std::optional<Abort> abort_in(std::string_view line);

// What the others' MPI says when a rank is gone: that connections to it failed. A line, or a box of lines.
bool is_about_lost_rank(std::string_view text);

// Tells the launcher's own texts from what must be shown. Line by line; one for each stream.
class NoiseFilter {
 public:
  // Takes a line without its end; returns what is to be shown now, each a line.
  std::vector<std::string> feed(std::string line);
  // What was held back at the end: a box that was not closed, empty lines.
  std::vector<std::string> rest();

  const std::optional<Abort>& abort() const { return abort_; }
  const std::optional<SpawnedEnd>& spawned_end() const { return spawned_end_; }
  // What was left out, for a failure that nothing else explains.
  const std::vector<std::string>& left_out() const { return left_out_; }

 private:
  std::vector<std::string> close_box();

  enum class In { text, openmpi_box, mpich_box };
  In in_ = In::text;
  std::size_t blank_ = 0;  // empty lines held back: they may belong to the box that follows
  std::vector<std::string> box_;
  std::vector<std::string> left_out_;
  std::optional<Abort> abort_;
  std::optional<SpawnedEnd> spawned_end_;
};

}  // namespace manyhands::cli
