# The tests of mpi/: one program per MPI, run by 1, 2, 3, 4 and 7 ranks; with a sanitizer by 2.
set(mpi_ranks 1 2 3 4 7)
set(mpi_environment
  # Open MPI: as root, in a container, with more ranks than cores, without probing for networks.
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
  OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_plm=isolated)
if(MANYHANDS_SANITIZE)
  set(mpi_ranks 2)
  list(APPEND mpi_environment HWLOC_COMPONENTS=-pci)  # its library does not free what it allocates
elseif(TARGET manyhands_mpich_yield)
  list(APPEND mpi_environment_mpich LD_PRELOAD=$<TARGET_FILE:manyhands_mpich_yield>)  # more ranks than cores
endif()
file(GLOB mpi_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/manyhands/mpi/*_test.cpp)
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  add_executable(test_mpi_${flavour} mpi_main.cpp ${mpi_tests})
  target_link_libraries(test_mpi_${flavour} PRIVATE manyhands::mpi_${flavour} doctest::doctest fmt::fmt manyhands_warnings)
  target_include_directories(test_mpi_${flavour} PRIVATE ${PROJECT_SOURCE_DIR})
  foreach(ranks ${mpi_ranks})
    set(test mpi.${flavour}.${ranks})
    add_test(NAME ${test} COMMAND ${MANYHANDS_MPIEXEC_${flavour}} -n ${ranks} $<TARGET_FILE:test_mpi_${flavour}>)
    set_tests_properties(${test} PROPERTIES TIMEOUT 300 PROCESSORS 2 ENVIRONMENT "${mpi_environment};${mpi_environment_${flavour}}")
  endforeach()
endforeach()

if(MANYHANDS_SANITIZE)  # the rest takes much memory, kills processes, runs programs that are no tests
  return()
endif()

# MANYHANDS_CHECK=comm has nothing to say against right programs.
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  add_test(NAME mpi.${flavour}.check COMMAND ${MANYHANDS_MPIEXEC_${flavour}} -n 3 $<TARGET_FILE:test_mpi_${flavour}>
    "--test-case-exclude=a wrong root*")
  set_tests_properties(mpi.${flavour}.check PROPERTIES TIMEOUT 300 PROCESSORS 2
    ENVIRONMENT "MANYHANDS_CHECK=comm;${mpi_environment};${mpi_environment_${flavour}}")
endforeach()

# More than 2^31 elements, for real.
foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
  add_executable(mpi_large_${flavour} mpi_large.cpp)
  target_link_libraries(mpi_large_${flavour} PRIVATE manyhands::mpi_${flavour} manyhands_warnings)
  target_include_directories(mpi_large_${flavour} PRIVATE ${PROJECT_SOURCE_DIR})
  add_test(NAME mpi_large.${flavour} COMMAND ${MANYHANDS_MPIEXEC_${flavour}} -n 2 $<TARGET_FILE:mpi_large_${flavour}>)
  set_tests_properties(mpi_large.${flavour} PROPERTIES TIMEOUT 240 PROCESSORS 2 SKIP_REGULAR_EXPRESSION "skipped:"
    ENVIRONMENT "${mpi_environment}")
endforeach()

# A rank that fails in every way, at every call.
if(MANYHANDS_COMMAND)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    add_executable(mpi_victim_${flavour} mpi_victim.cpp)
    target_link_libraries(mpi_victim_${flavour} PRIVATE manyhands::mpi_${flavour} manyhands_warnings)
    target_include_directories(mpi_victim_${flavour} PRIVATE ${PROJECT_SOURCE_DIR})
    add_test(NAME mpi_faults.${flavour} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/mpi_faults_test.py
      $<TARGET_FILE:manyhands_command> $<TARGET_FILE:mpi_victim_${flavour}>)
    set_tests_properties(mpi_faults.${flavour} PROPERTIES PROCESSORS 2 TIMEOUT 300)
  endforeach()
endif()

# The talk's programs and the ray tracer, as their readers start them.
if(MANYHANDS_EXAMPLES AND MANYHANDS_COMMAND)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    foreach(program mpi_hello mpi_p2p mpi_p2p_array mpi_scatter_gather mpi_bcast_barrier mpi_nonblocking mpi_import mpi_interop)
      add_test(NAME "talk: ${program} ${flavour}" COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/talk_mpi_test.py
        $<TARGET_FILE:manyhands_command> $<TARGET_FILE_DIR:talk_${program}_${flavour}> ${program}
        $<TARGET_FILE:talk_mpi_plugin>)
      set_tests_properties("talk: ${program} ${flavour}" PROPERTIES PROCESSORS 2 TIMEOUT 120)
    endforeach()
  endforeach()
endif()

if(TARGET raytrace AND MANYHANDS_COMMAND)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    set(program raytrace)
    if(TARGET raytrace_${flavour})
      set(program raytrace_${flavour})
    endif()
    add_test(NAME raytrace.${flavour} COMMAND manyhands_command run -n 3 $<TARGET_FILE:${program}>
      ${PROJECT_SOURCE_DIR}/examples/raytracer/still_life.obj --on serial,mpi --size 96x72 --samples 1
      -o ${PROJECT_BINARY_DIR}/raytrace_${flavour}.png)
    set_tests_properties(raytrace.${flavour} PROPERTIES PROCESSORS 2 TIMEOUT 120
      PASS_REGULAR_EXPRESSION "All 2 runs gave the same 6912 pixels, bit for bit")
  endforeach()
endif()

# `manyhands run --hosts`, on two machines made of namespaces
if(MANYHANDS_COMMAND AND MANYHANDS_MPI_FLAVOURS)
  set(nodes)
  foreach(flavour ${MANYHANDS_MPI_FLAVOURS})
    add_executable(mpi_nodes_${flavour} mpi_nodes.cpp)
    target_link_libraries(mpi_nodes_${flavour} PRIVATE manyhands::mpi_${flavour} manyhands_warnings)
    target_include_directories(mpi_nodes_${flavour} PRIVATE ${PROJECT_SOURCE_DIR})
    list(APPEND nodes ${flavour}=mpicc.${flavour}=$<TARGET_FILE:mpi_nodes_${flavour}>)
  endforeach()
  add_test(NAME nodes COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/nodes_test.py $<TARGET_FILE:manyhands_command> ${nodes})
  set_tests_properties(nodes PROPERTIES TIMEOUT 180 PROCESSORS 2 SKIP_REGULAR_EXPRESSION "skipped:")
endif()

# `manyhands run`
if(MANYHANDS_COMMAND AND MANYHANDS_MPI_FLAVOURS)
  set(wrappers ${MANYHANDS_MPI_FLAVOURS})
  list(TRANSFORM wrappers PREPEND mpicc.)
  add_test(NAME run COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/run_test.py $<TARGET_FILE:manyhands_command> ${wrappers})
  set_tests_properties(run PROPERTIES TIMEOUT 300 PROCESSORS 2)
endif()
