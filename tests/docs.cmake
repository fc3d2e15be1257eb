# What users try first: the talk's programs, and the code and links of every page.

if(MANYHANDS_EXAMPLES)
  foreach(program amdahl deadlock pool progress race shared_array threads_and_processes)
    add_test(NAME "talk: ${program}" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/talk_test.py
      $<TARGET_FILE_DIR:talk_${program}> ${program})
  endforeach()
endif()

file(GLOB_RECURSE pages RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
file(GLOB top_pages RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/*.md)
if(NOT MANYHANDS_SANITIZE)  # the pages' programs crash, run out of memory, use oneTBB; the unit tests are for sanitizers
  set(flags "${CMAKE_CXX_FLAGS} -std=c++20 -O0 -pthread -isystem ${PROJECT_SOURCE_DIR}")
  set(link "${CMAKE_EXE_LINKER_FLAGS} -rdynamic $<TARGET_FILE:manyhands> $<TARGET_FILE:TBB::tbb> $<TARGET_FILE:fmt::fmt>")
  string(APPEND link " $<TARGET_FILE:Boost::context> -lhwloc -ldw -ldl")
  set(code --compiler ${CMAKE_CXX_COMPILER} "--flags=${flags}" "--link=${link}")
endif()
foreach(page IN LISTS top_pages pages)
  add_test(NAME "docs: ${page}" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/check_docs.py ${page} ${code})
  set_tests_properties("docs: ${page}" PROPERTIES LABELS docs TIMEOUT 300)

  # What is of MPI in a page, with every MPI, started as the page says.
  file(STRINGS ${PROJECT_SOURCE_DIR}/${page} mpi_programs REGEX "#include <manyhands/mpi.hpp>")
  if(NOT mpi_programs OR MANYHANDS_SANITIZE)
    continue()
  endif()
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    set(native MPI::MPI_C)
    if(TARGET PkgConfig::manyhands_native_${flavour})
      set(native PkgConfig::manyhands_native_${flavour})
    endif()
    set(folders $<TARGET_PROPERTY:${native},INTERFACE_INCLUDE_DIRECTORIES>)
    set(mpi_flags "${flags} $<$<BOOL:${folders}>:-isystem $<JOIN:${folders}, -isystem >>")
    set(mpi_link "$<TARGET_FILE:manyhands_mpi_${flavour}> ${link}")
    string(APPEND mpi_link " $<JOIN:$<TARGET_PROPERTY:${native},INTERFACE_LINK_LIBRARIES>, >")
    if(MANYHANDS_COMMAND)
      set(launch "$<TARGET_FILE:manyhands_command> run")
    else()
      list(JOIN mpi_environment " " launch)
      string(PREPEND launch "env ")
      string(APPEND launch " ${MANYHANDS_MPIEXEC_${flavour}}")
    endif()
    add_test(NAME "docs: ${page} ${flavour}" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/check_docs.py ${page} --mpi ${flavour} "--launch=${launch}"
        --compiler ${CMAKE_CXX_COMPILER} "--flags=${mpi_flags}" "--link=${mpi_link}")
    set_tests_properties("docs: ${page} ${flavour}" PROPERTIES LABELS docs PROCESSORS 2 TIMEOUT 900)
  endforeach()
endforeach()

# docs/coming-from-mpi4py.md names everything that mpi4py has, whether or not it is installed here.
add_test(NAME mpi4py_names COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/mpi4py_names_test.py
  ${CMAKE_CURRENT_SOURCE_DIR}/mpi4py_names.txt ${PROJECT_SOURCE_DIR}/docs/coming-from-mpi4py.md)
set_tests_properties(mpi4py_names PROPERTIES LABELS docs)

# The examples in the headers' comments.
if(NOT MANYHANDS_SANITIZE)
  add_test(NAME "docs: headers" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/check_headers.py . --compiler ${CMAKE_CXX_COMPILER} "--flags=${flags}")
  set_tests_properties("docs: headers" PROPERTIES LABELS docs TIMEOUT 300)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    set(native MPI::MPI_C)
    if(TARGET PkgConfig::manyhands_native_${flavour})
      set(native PkgConfig::manyhands_native_${flavour})
    endif()
    set(folders $<TARGET_PROPERTY:${native},INTERFACE_INCLUDE_DIRECTORIES>)
    set(mpi_flags "${flags} $<$<BOOL:${folders}>:-isystem $<JOIN:${folders}, -isystem >>")
    add_test(NAME "docs: headers ${flavour}" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tools/check_headers.py . --mpi --compiler ${CMAKE_CXX_COMPILER}
        "--flags=${mpi_flags}")
    set_tests_properties("docs: headers ${flavour}" PROPERTIES LABELS docs TIMEOUT 300)
  endforeach()
endif()
