# The tests of mpi/: one program per MPI, run by 1, 2, 3, 4 and 7 ranks.
set(mpi_environment
  # Open MPI: as root, in a container, with more ranks than cores, without probing for networks.
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
  OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_plm=isolated)
if(TARGET manyhands_mpich_yield)
  list(APPEND mpi_environment_mpich LD_PRELOAD=$<TARGET_FILE:manyhands_mpich_yield>)  # more ranks than cores
endif()
file(GLOB mpi_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/manyhands/mpi/*_test.cpp)
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  add_executable(test_mpi_${flavour} mpi_main.cpp ${mpi_tests})
  target_link_libraries(test_mpi_${flavour} PRIVATE manyhands::mpi_${flavour} doctest::doctest fmt::fmt manyhands_warnings)
  target_include_directories(test_mpi_${flavour} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(ranks 1 2 3 4 7)
    set(test mpi.${flavour}.${ranks})
    add_test(NAME ${test} COMMAND ${MANYHANDS_MPIEXEC_${flavour}} -n ${ranks} $<TARGET_FILE:test_mpi_${flavour}>)
    set_tests_properties(${test} PROPERTIES TIMEOUT 300 PROCESSORS 2 ENVIRONMENT "${mpi_environment};${mpi_environment_${flavour}}")
  endforeach()
endforeach()

# The talk's programs and the ray tracer, as their readers start them.
if(MANYHANDS_EXAMPLES AND MANYHANDS_COMMAND)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    foreach(program mpi_hello mpi_p2p mpi_p2p_array mpi_scatter_gather mpi_bcast_barrier mpi_nonblocking)
      add_test(NAME "talk: ${program} ${flavour}" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/talk_mpi_test.py
        $<TARGET_FILE:manyhands_command> $<TARGET_FILE_DIR:talk_${program}_${flavour}> ${program})
      set_tests_properties("talk: ${program} ${flavour}" PROPERTIES PROCESSORS 2 TIMEOUT 120)
    endforeach()
  endforeach()
endif()
