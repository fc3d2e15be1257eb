# What is built beside the library, and the warnings and sanitizers that every target of this tree shares.

option(MANYHANDS_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(MANYHANDS_EXAMPLES "Build the examples (the ray tracer needs Embree, tinyobjloader and stb)" ${PROJECT_IS_TOP_LEVEL})
option(MANYHANDS_COMMAND "Build the command `manyhands`" ${PROJECT_IS_TOP_LEVEL})
option(MANYHANDS_INSTALL "Install the library, and the command if it is built" ${PROJECT_IS_TOP_LEVEL})
option(MANYHANDS_BENCH "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(MANYHANDS_FUZZ "Build the fuzz targets (clang only)" OFF)
option(MANYHANDS_WERROR "Treat warnings as errors" OFF)
set(MANYHANDS_SANITIZE "" CACHE STRING "Sanitizers for everything in this tree, e.g. address,undefined")

add_library(manyhands_warnings INTERFACE)
target_compile_options(manyhands_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Wno-missing-designated-field-initializers>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-missing-field-initializers>
  $<$<BOOL:${MANYHANDS_WERROR}>:-Werror>)

if(MANYHANDS_SANITIZE)
  add_compile_options(-fsanitize=${MANYHANDS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MANYHANDS_SANITIZE})
  if(MANYHANDS_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # Ours order a store before a load of two atomics (sleep and wake); they publish no data that the tool would miss.
    add_compile_options(-Wno-tsan)
  endif()
endif()
