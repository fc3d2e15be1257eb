// Datatypes taken apart: combiner, contents, description.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "manyhands/mpi/datatype.hpp"

namespace manyhands::mpi {
namespace {

struct Envelope {
  int integers = 0;
  int addresses = 0;
  int types = 0;
  int combiner = MPI_COMBINER_NAMED;
};

Envelope envelope_of(MPI_Datatype type, const char* verb) {
  detail::require_active(verb);
  if (type == MPI_DATATYPE_NULL) detail::fail(Errc::type, verb, {}, "the datatype is none");
  Envelope found;
  detail::check(MPI_Type_get_envelope(type, &found.integers, &found.addresses, &found.types, &found.combiner),
                verb);
  return found;
}

Combiner combiner_of(int native) {
  switch (native) {
    case MPI_COMBINER_NAMED:
      return Combiner::predefined;
    case MPI_COMBINER_DUP:
      return Combiner::dup;
    case MPI_COMBINER_CONTIGUOUS:
      return Combiner::contiguous;
    case MPI_COMBINER_VECTOR:
      return Combiner::vector;
    case MPI_COMBINER_HVECTOR:
      return Combiner::hvector;
    case MPI_COMBINER_INDEXED:
      return Combiner::indexed;
    case MPI_COMBINER_HINDEXED:
      return Combiner::hindexed;
    case MPI_COMBINER_INDEXED_BLOCK:
      return Combiner::indexed_block;
    case MPI_COMBINER_HINDEXED_BLOCK:
      return Combiner::hindexed_block;
    case MPI_COMBINER_STRUCT:
      return Combiner::structure;
    case MPI_COMBINER_SUBARRAY:
      return Combiner::subarray;
    case MPI_COMBINER_DARRAY:
      return Combiner::darray;
    case MPI_COMBINER_RESIZED:
      return Combiner::resized;
    case MPI_COMBINER_F90_REAL:
      return Combiner::f90_real;
    case MPI_COMBINER_F90_COMPLEX:
      return Combiner::f90_complex;
    case MPI_COMBINER_F90_INTEGER:
      return Combiner::f90_integer;
    default:
      return Combiner::other;
  }
}

bool without_parts(Combiner combiner) {
  return combiner == Combiner::predefined || combiner == Combiner::f90_real ||
         combiner == Combiner::f90_complex || combiner == Combiner::f90_integer;
}

}  // namespace

std::string_view name_of(Combiner combiner) noexcept {
  switch (combiner) {
    case Combiner::predefined:
      return "predefined";
    case Combiner::dup:
      return "dup";
    case Combiner::contiguous:
      return "contiguous";
    case Combiner::vector:
      return "vector";
    case Combiner::hvector:
      return "hvector";
    case Combiner::indexed:
      return "indexed";
    case Combiner::hindexed:
      return "hindexed";
    case Combiner::indexed_block:
      return "indexed_block";
    case Combiner::hindexed_block:
      return "hindexed_block";
    case Combiner::structure:
      return "structure";
    case Combiner::subarray:
      return "subarray";
    case Combiner::darray:
      return "darray";
    case Combiner::resized:
      return "resized";
    case Combiner::f90_real:
      return "f90_real";
    case Combiner::f90_complex:
      return "f90_complex";
    case Combiner::f90_integer:
      return "f90_integer";
    case Combiner::other:
      return "other";
  }
  return "other";
}

Combiner Datatype::combiner() const { return combiner_of(envelope_of(type_, "Datatype::combiner").combiner); }

bool Datatype::is_predefined() const {
  return without_parts(combiner_of(envelope_of(type_, "Datatype::is_predefined").combiner));
}

DatatypeContents Datatype::contents() const {
  const Envelope envelope = envelope_of(type_, "Datatype::contents");
  DatatypeContents made;
  made.combiner = combiner_of(envelope.combiner);
  if (made.combiner == Combiner::predefined) return made;
  std::vector<MPI_Datatype> types(static_cast<std::size_t>(envelope.types), MPI_DATATYPE_NULL);
  made.integers.resize(static_cast<std::size_t>(envelope.integers));
  made.addresses.resize(static_cast<std::size_t>(envelope.addresses));
  detail::check(MPI_Type_get_contents(type_, envelope.integers, envelope.addresses, envelope.types,
                                      made.integers.data(), made.addresses.data(), types.data()),
                "Datatype::contents");
  for (const MPI_Datatype type : types) {
    // MPI gives new handles of derived types, which may not be committed; predefined ones are its own.
    const bool derived = !without_parts(combiner_of(envelope_of(type, "Datatype::contents").combiner));
    made.types.push_back(derived ? adopt(type) : view(type));
  }
  return made;
}

std::string Datatype::describe() const {
  const DatatypeContents made = contents();
  if (made.combiner == Combiner::predefined) return name();
  std::vector<std::string> numbers;
  numbers.reserve(made.integers.size() + made.addresses.size());
  for (const int integer : made.integers) numbers.push_back(std::to_string(integer));
  for (const MPI_Aint address : made.addresses) numbers.push_back(fmt::format("{} B", address));
  std::string text = fmt::format("{}({})", name_of(made.combiner), fmt::join(numbers, ", "));
  if (made.types.empty()) return text;
  std::vector<std::string> of;
  of.reserve(made.types.size());
  for (const Datatype& type : made.types) of.push_back(type.describe());
  return text + " of " + (of.size() == 1 ? of[0] : fmt::format("{{{}}}", fmt::join(of, ", ")));
}

}  // namespace manyhands::mpi
