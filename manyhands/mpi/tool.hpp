#pragma once
// The knobs and meters of this MPI (its MPI_T interface): control variables with their values, and
// performance variables. For looking, not for changing: the launcher's environment sets them (OMPI_MCA_...,
// MPIR_CVAR_...).
//
//   for (const auto& knob : mpi::control_variables()) std::cout << knob.name << " = " << knob.value << '\n';

#include <string>
#include <vector>

namespace manyhands::mpi {

struct ControlVariable {
  std::string name;
  std::string description;
  std::string value;  // as text; empty if it is bound to an object, or of a type that has no text
};
struct PerformanceVariable {
  std::string name;
  std::string description;
};

// Local; also before MPI begins, not after its end (Error not_active). Some MPIs have more than a thousand.
std::vector<ControlVariable> control_variables();
std::vector<PerformanceVariable> performance_variables();

}  // namespace manyhands::mpi
