#include "manyhands/mpi/tool.hpp"

#include <fmt/format.h>

#include "manyhands/mpi/error.hpp"
#include "manyhands/mpi/lifetime.hpp"

namespace manyhands::mpi {
namespace {

void check_tool(int code, const char* verb) {
  if (code != MPI_SUCCESS)
    throw Error(Errc::other, verb, fmt::format("mpi: {}: the tool interface reports error {}", verb, code),
                code);
}

// Once for the process and never undone: MPICH 4.0 forgets its variables when the interface is finalized, and
// crashes the next time.
void start_tools(const char* verb) {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) detail::require_active(verb);  // before MPI's beginning they can be looked at
  static const int code = [] {
    int level = 0;
    return MPI_T_init_thread(MPI_THREAD_SINGLE, &level);
  }();
  check_tool(code, verb);
}

struct Text {
  char data[4096] = "";
  int length = sizeof data;
};

std::string value_of(int index, MPI_Datatype type, int binding) {
  if (binding != MPI_T_BIND_NO_OBJECT) return {};
  MPI_T_cvar_handle handle{};
  int count = 0;
  if (MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count) != MPI_SUCCESS) return {};
  std::string text;
  const auto number = [&]<class N>(N) {
    std::vector<N> values(static_cast<std::size_t>(count));
    if (count > 0 && MPI_T_cvar_read(handle, values.data()) == MPI_SUCCESS) {
      for (const N value : values) text += fmt::format("{}{}", text.empty() ? "" : " ", value);
    }
  };
  if (type == MPI_CHAR) {
    std::vector<char> values(static_cast<std::size_t>(count) + 1);
    if (MPI_T_cvar_read(handle, values.data()) == MPI_SUCCESS) text = values.data();
  } else if (type == MPI_INT) {
    number(int{});
  } else if (type == MPI_UNSIGNED) {
    number(unsigned{});
  } else if (type == MPI_UNSIGNED_LONG) {
    number(0UL);
  } else if (type == MPI_UNSIGNED_LONG_LONG) {
    number(0ULL);
  } else if (type == MPI_COUNT) {
    number(MPI_Count{});
  } else if (type == MPI_DOUBLE) {
    number(double{});
  }
  MPI_T_cvar_handle_free(&handle);
  return text;
}

}  // namespace

std::vector<ControlVariable> control_variables() {
  start_tools("control_variables");
  int n = 0;
  check_tool(MPI_T_cvar_get_num(&n), "control_variables");
  std::vector<ControlVariable> all;
  for (int i = 0; i < n; ++i) {
    Text name;
    Text description;
    int verbosity = 0;
    MPI_Datatype type = MPI_DATATYPE_NULL;
    MPI_T_enum values = MPI_T_ENUM_NULL;
    int binding = 0;
    int scope = 0;
    // Some are gone again, such as those of parts that were not chosen.
    if (MPI_T_cvar_get_info(i, name.data, &name.length, &verbosity, &type, &values, description.data,
                            &description.length, &binding, &scope) != MPI_SUCCESS)
      continue;
    all.push_back({name.data, description.data, value_of(i, type, binding)});
  }
  return all;
}

std::vector<PerformanceVariable> performance_variables() {
  start_tools("performance_variables");
  int n = 0;
  check_tool(MPI_T_pvar_get_num(&n), "performance_variables");
  std::vector<PerformanceVariable> all;
  for (int i = 0; i < n; ++i) {
    Text name;
    Text description;
    int verbosity = 0;
    int kind = 0;
    MPI_Datatype type = MPI_DATATYPE_NULL;
    MPI_T_enum values = MPI_T_ENUM_NULL;
    int binding = 0;
    int read_only = 0;
    int continuous = 0;
    int atomic = 0;
    if (MPI_T_pvar_get_info(i, name.data, &name.length, &verbosity, &kind, &type, &values, description.data,
                            &description.length, &binding, &read_only, &continuous, &atomic) == MPI_SUCCESS)
      all.push_back({name.data, description.data});
  }
  return all;
}

}  // namespace manyhands::mpi
